package tokenizer

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// regexpPattern runs an expression for which there is no scanner on a backtracking engine.
type regexpPattern struct {
	re *regexp2.Regexp
}

// match is never called: spans finds all matches of a text at once, so that look-behind and time stay those of one pass.
func (p *regexpPattern) match(_ []byte, i int) int { return i }

func (p *regexpPattern) spans(dst []span, text []byte) []span {
	found, err := p.re.FindAllStringIndex(string(text), -1)
	if err != nil {
		slog.Warn("tokenizer: pre-tokenizer pattern gave up on a text, which stays one piece", "bytes", len(text), "error", err)
	}
	i := 0
	for _, f := range found {
		if f[0] == f[1] {
			continue
		}
		if f[0] > i {
			dst = append(dst, span{i, f[0], false})
		}
		dst = append(dst, span{f[0], f[1], true})
		i = f[1]
	}
	if i < len(text) {
		dst = append(dst, span{i, len(text), false})
	}
	return dst
}

// maxBacktrack bounds one search of a hostile expression.
const maxBacktrack = 2 * time.Second

// newPattern returns the fastest scanner for an expression in the syntax of the pre-tokenizer files.
func newPattern(expr string) (pattern, error) {
	if p := knownPattern(expr); p != nil {
		return p, nil
	}
	// Possessive and lazy-free spellings of the same patterns (newer exports of cl100k) cut the same pieces.
	plain := strings.NewReplacer("?+", "?", "++", "+", "*+", "*", "}+", "}", `\s++$`, `\s+$`).Replace(expr)
	if p := knownPattern(plain); p != nil {
		return p, nil
	}
	if p := compileSet(expr); p != nil {
		return p, nil
	}
	if p := compileLiterals(expr); p != nil {
		return p, nil
	}
	if len(expr) > 1<<16 {
		return nil, fmt.Errorf("pattern: want at most %d bytes, got %d", 1<<16, len(expr))
	}
	re, err := regexp2.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", clip(expr), err)
	}
	re.MatchTimeout = maxBacktrack
	slog.Warn("tokenizer: no hand-written scanner for this pre-tokenizer pattern, using the slower regexp2", "pattern", expr)
	return &regexpPattern{re}, nil
}

// clip shortens a string for an error message.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	i := limit
	for i > limit-utf8.UTFMax && !utf8.RuneStart(s[i]) {
		i--
	}
	return s[:i] + "..."
}
