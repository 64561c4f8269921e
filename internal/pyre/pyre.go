// Package pyre runs regular expressions in Python's syntax, as tasks and templates written for Python have them.
package pyre

import (
	"fmt"
	"strings"
	"time"

	"github.com/dlclark/regexp2/v2"
)

// Regexp is a compiled expression. It is safe for concurrent use.
type Regexp struct{ re *regexp2.Regexp }

// limit bounds one search of an expression that backtracks without end.
const limit = 5 * time.Second

// translate rewrites what .NET's syntax, which the engine reads, spells differently.
var translate = strings.NewReplacer(`\\`, `\\`, "(?P<", "(?<", `\Z`, `\z`)

// Compile reads an expression.
func Compile(expr string) (*Regexp, error) {
	if len(expr) > 1<<16 {
		return nil, fmt.Errorf("pattern: want at most %d bytes, got %d", 1<<16, len(expr))
	}
	re, err := regexp2.Compile(backReferences(translate.Replace(expr)), regexp2.OptionMaintainCaptureOrder())
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", expr, err)
	}
	re.MatchTimeout = limit
	return &Regexp{re}, nil
}

// backReferences rewrites (?P=name).
func backReferences(expr string) string {
	head, tail, ok := strings.Cut(expr, "(?P=")
	if !ok {
		return expr
	}
	name, rest, _ := strings.Cut(tail, ")")
	return head + `\k<` + name + ">" + backReferences(rest)
}

// FindAll is re.findall with every group kept: for each match the whole of it, then its groups; a group that took no
// part is "".
func (r *Regexp) FindAll(s string) ([][]string, error) {
	var all [][]string
	m, err := r.re.FindStringMatch(s)
	for ; m != nil && err == nil; m, err = r.re.FindNextMatch(m) {
		var groups []string
		for _, g := range m.Groups() {
			groups = append(groups, g.String())
		}
		all = append(all, groups)
	}
	return all, err
}

// Sub is re.sub: every match gives way to the replacement, whose \1 and \g<name> stand for groups. At most count matches
// are replaced; 0 stands for all.
func (r *Regexp) Sub(s, replacement string, count int) (string, error) {
	if count == 0 {
		count = -1
	}
	return r.re.Replace(s, dotNet(replacement), -1, count)
}

// dotNet spells a replacement in .NET's syntax.
func dotNet(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$':
			b.WriteString("$$")
		case s[i] != '\\' || i+1 == len(s):
			b.WriteByte(s[i])
		case s[i+1] >= '1' && s[i+1] <= '9':
			n := 1
			for n < 2 && i+1+n < len(s) && s[i+1+n] >= '0' && s[i+1+n] <= '9' {
				n++
			}
			b.WriteString("${" + s[i+1:i+1+n] + "}")
			i += n
		case s[i+1] == 'g' && strings.HasPrefix(s[i+2:], "<") && strings.Contains(s[i+2:], ">"):
			name, _, _ := strings.Cut(s[i+3:], ">")
			b.WriteString("${" + name + "}")
			i += 3 + len(name)
		default:
			i++
			if at := strings.IndexByte("nrt\\", s[i]); at >= 0 {
				b.WriteByte("\n\r\t\\"[at])
			} else {
				b.WriteString(s[i-1 : i+1])
			}
		}
	}
	return b.String()
}
