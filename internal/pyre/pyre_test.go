package pyre

import (
	"reflect"
	"testing"
)

func TestFindAll(t *testing.T) {
	for _, c := range []struct {
		expr, text string
		want       [][]string
	}{
		{`#### (\-?[0-9\.\,]+)`, "so #### 1,234 and #### -5", [][]string{{"#### 1,234", "1,234"}, {"#### -5", "-5"}}},
		{`(-?[$0-9.,]{2,})|(-?[0-9]+)`, "a $12 b 7", [][]string{{"$12", "$12", ""}, {"7", "", "7"}}},
		{`(?P<first>\w)(x)(?P=first)`, "axa bxc", [][]string{{"axa", "a", "x"}}},
		{`(?<=the answer is )(.*)(?=.)`, "the answer is 12.", [][]string{{"12", "12"}}},
		{`\d+\Z`, "a1\nb23", [][]string{{"23"}}},
	} {
		re, err := Compile(c.expr)
		if err != nil {
			t.Fatal(err)
		}
		got, err := re.FindAll(c.text)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s on %q: want %q, got %q %v", c.expr, c.text, c.want, got, err)
		}
	}
}

func TestSub(t *testing.T) {
	for _, c := range []struct{ expr, by, text, want string }{
		{`(\w+) (\w+)`, `\2 \1`, "a b", "b a"},
		{`(?P<n>\d)`, `<\g<n>>`, "1a2", "<1>a<2>"},
		{`,`, "", "1,234,5", "12345"},
		{`\$`, `$0`, "a$", "a$0"},
		{`b`, `\n`, "abc", "a\nc"},
	} {
		re, err := Compile(c.expr)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := re.Sub(c.text, c.by, 0); err != nil || got != c.want {
			t.Errorf("%s by %s: want %q, got %q %v", c.expr, c.by, c.want, got, err)
		}
	}
	re, _ := Compile("a")
	if got, _ := re.Sub("aaa", "b", 2); got != "bba" {
		t.Errorf("two of three: %q", got)
	}
	if _, err := Compile("("); err == nil {
		t.Error("an open group was taken")
	}
}
