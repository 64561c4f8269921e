package tokenizer

import "testing"

func TestNormalizationRules(t *testing.T) {
	for _, c := range []struct{ rule, in, want string }{
		{"nmt_nfkc", "Ａｂ①ｶﾞ\tx\u200by\u0007z", "Ab1ガ x yz"},
		{"nmt_nfkc", "e\u0301 \u1112\u1161\u11ab ～", "é 한 ～"},
		{"nfkc", "～ﬁ㌀", "~fiアパート"},
		{"nfkc_cf", "ＡÉẞ\u03a3", "aéß\u03c3"},
		{"nmt_nfkc_cf", "STRASSE\nÀ", "strasse à"},
	} {
		m, err := normalizationRule(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(charsmapStep{m}.apply([]byte(c.in))); got != c.want {
			t.Errorf("%s %q: got %q, want %q", c.rule, c.in, got, c.want)
		}
	}
	if _, err := normalizationRule("nfx"); err == nil {
		t.Error("want an error for an unknown rule")
	}
}
