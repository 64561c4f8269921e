package locale

import "testing"

func TestIsChinese(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"LANG": "zh_CN.UTF-8"}, true},
		{map[string]string{"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LANG": "C", "DANLU_LANG": "zh"}, true},
		{map[string]string{"LANG": "zh_TW.UTF-8", "DANLU_LANG": "en"}, false},
	} {
		if got := isChinese(func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%v: Chinese %v, want %v", c.env, got, c.want)
		}
	}
}
