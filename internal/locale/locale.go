// Package locale picks the language in which the program speaks: Chinese or English.
package locale

import (
	"os"
	"strings"
	"sync"
)

var chinese = sync.OnceValue(func() bool { return isChinese(os.Getenv) })

// isChinese follows DANLU_LANG, then the usual order of locale variables.
func isChinese(getenv func(string) string) bool {
	for _, key := range []string{"DANLU_LANG", "LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := getenv(key); v != "" {
			return strings.HasPrefix(strings.ToLower(v), "zh")
		}
	}
	return false
}

// Chinese reports whether to speak Chinese.
func Chinese() bool { return chinese() }

// Text returns the text in the language to speak.
func Text(en, zh string) string {
	if chinese() {
		return zh
	}
	return en
}
