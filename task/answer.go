package task

import "strings"

const (
	thinkOpen, thinkClose   = "<think>", "</think>"
	answerOpen, answerClose = "<answer>", "</answer>"
)

// Extract finds the final answer in a reply. It looks in the last <answer> block, else behind the last </think>, else
// everywhere; there for the last \boxed or \fbox, else the rest of the line behind the last ####, else it takes the
// whole <answer> block. ok is false when there is none; a last box that is not closed is none.
func Extract(text string) (answer string, ok bool) {
	scope, block := lastBlock(text)
	if !block {
		if i := strings.LastIndex(text, thinkClose); i >= 0 {
			scope = text[i+len(thinkClose):]
		}
	}
	if rest, ok := lastBox(scope); ok {
		return boxed(rest)
	}
	if i := strings.LastIndex(scope, "####"); i >= 0 {
		line, _, _ := strings.Cut(scope[i+len("####"):], "\n")
		return strings.TrimSpace(line), true
	}
	return strings.TrimSpace(scope), block
}

// lastBlock is the inside of the last closed <answer> block, else the whole text.
func lastBlock(text string) (string, bool) {
	end := strings.LastIndex(text, answerClose)
	if end < 0 {
		return text, false
	}
	start := strings.LastIndex(text[:end], answerOpen)
	if start < 0 {
		return text, false
	}
	return text[start+len(answerOpen) : end], true
}

// lastBox is the text behind the last \boxed or \fbox.
func lastBox(text string) (rest string, ok bool) {
	end := -1
	for _, command := range []string{`\boxed`, `\fbox`} {
		for head := text; ; {
			i := strings.LastIndex(head, command)
			if i < 0 {
				break
			}
			if j := i + len(command); j == len(text) || !isLetter(text[j]) {
				end = max(end, j)
				break
			}
			head = head[:i]
		}
	}
	if end < 0 {
		return "", false
	}
	return text[end:], true
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// boxed is the argument behind a \boxed: a group with balanced braces, else the word up to white space or $.
func boxed(rest string) (string, bool) {
	rest = strings.TrimLeft(rest, " \t\n")
	if !strings.HasPrefix(rest, "{") {
		word := rest
		if i := strings.IndexAny(rest, "$ \t\n"); i >= 0 {
			word = rest[:i]
		}
		word = strings.TrimRight(word, ".,;")
		return word, word != ""
	}
	inside, _, ok := group(rest)
	return strings.TrimSpace(inside), ok
}

// group cuts a text that starts with { behind the brace that closes it. Escaped braces are not counted.
func group(s string) (inside, rest string, ok bool) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return s[1:i], s[i+1:], true
			}
		}
	}
	return "", "", false
}
