package task

import (
	"math"
	"math/big"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// number is a rational number, or one with roots or π in float64.
type number struct {
	exact  *big.Rat // nil: irrational
	approx float64
}

func (a *number) float() float64 {
	if a.exact != nil {
		f, _ := a.exact.Float64()
		return f
	}
	return a.approx
}

func rational(r *big.Rat) number  { return number{exact: r} }
func irrational(f float64) number { return number{approx: f} }

const (
	maxBits  = 1 << 14 // of numerators and denominators
	maxDepth = 50      // of brackets
)

// numberParser reads the arithmetic that answers are written in, LaTeX and plain.
type numberParser struct {
	s         string
	at        int
	thousands bool // commas may separate groups of three digits
	depth     int
}

// parseNumber reads a whole text as a number, with a unit behind it or not.
func parseNumber(s string, thousands bool) (v number, ok bool) {
	p := &numberParser{s: s, thousands: thousands}
	if v, ok = p.sum(); !ok {
		return v, false
	}
	rest := strings.TrimSpace(p.s[p.at:])
	for name, zeros := range multipliers {
		if tail, found := strings.CutPrefix(rest, name); found && (tail == "" || tail[0] == ' ') {
			scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(zeros), nil)
			v, rest = multiply(v, rational(new(big.Rat).SetInt(scale))), strings.TrimSpace(tail)
			break
		}
	}
	return v, isUnit(rest, strings.HasPrefix(p.s[p.at:], " "))
}

var multipliers = map[string]int64{"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}

// unitLetters are the one-letter units: a single letter is else a variable.
const unitLetters = "mgshlLNJWVKACF"

// isUnit reports whether a text behind a number is a unit: signs of per cent and degrees, or up to four words with
// powers and quotients. A single Latin letter must be a unit's and stand apart.
func isUnit(s string, apart bool) bool {
	for _, sign := range []string{`\%`, "%", `^\circ`, `^{\circ}`, `\circ`, `\degree`, "°"} {
		s = strings.TrimSpace(strings.TrimPrefix(s, sign))
	}
	if s == "" {
		return true
	}
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '/' || r == '*' })
	if len(words) > 4 {
		return false
	}
	for _, w := range words {
		base, power, _ := strings.Cut(w, "^")
		if power = strings.Trim(power, "{}-"); power != "" && power != "2" && power != "3" && power != "1" {
			return false
		}
		base = strings.TrimRight(base, "²³.")
		for _, r := range base {
			if !unicode.IsLetter(r) {
				return false
			}
		}
		r, size := utf8.DecodeRuneInString(base)
		if size == len(base) && !unicode.Is(unicode.Han, r) && (!apart || !strings.ContainsRune(unitLetters, r)) {
			return false
		}
		apart = true
	}
	return len(words) > 0
}

func (p *numberParser) space() {
	for p.at < len(p.s) && p.s[p.at] == ' ' {
		p.at++
	}
}

// take skips a literal, with white space in front. A command must not go on with a letter.
func (p *numberParser) take(literal string) bool {
	from := p.at
	p.space()
	rest, ok := strings.CutPrefix(p.s[p.at:], literal)
	if ok && isLetter(literal[len(literal)-1]) && rest != "" && isLetter(rest[0]) {
		ok = false
	}
	if !ok {
		p.at = from
		return false
	}
	p.at += len(literal)
	return true
}

func (p *numberParser) sum() (number, bool) {
	if p.depth++; p.depth > maxDepth {
		return number{}, false
	}
	defer func() { p.depth-- }()
	v, ok := p.product()
	for ok {
		from := p.at
		minus := p.take("-")
		if !minus && !p.take("+") {
			return v, true
		}
		w, more := p.product()
		if !more {
			p.at = from
			return v, false
		}
		if minus {
			w = multiply(w, rational(big.NewRat(-1, 1)))
		}
		v, ok = add(v, w), true
	}
	return v, false
}

func (p *numberParser) product() (number, bool) {
	v, ok := p.signed()
	for ok {
		from := p.at
		switch {
		case p.take(`\times`), p.take(`\cdot`), p.take("*"):
			w, more := p.signed()
			if !more {
				return v, false
			}
			v = multiply(v, w)
		case p.take(`\div`), p.take("/"):
			w, more := p.signed()
			if !more {
				p.at = from
				return v, true // a unit such as "m/s" may follow
			}
			if v, ok = divide(v, w); !ok {
				return v, false
			}
		case p.startsFactor():
			w, more := p.power()
			if !more {
				return v, false
			}
			v = multiply(v, w)
		default:
			return v, bounded(v)
		}
		ok = bounded(v)
	}
	return v, false
}

// startsFactor reports whether a factor follows that needs no sign of multiplication.
func (p *numberParser) startsFactor() bool {
	rest := strings.TrimLeft(p.s[p.at:], " ")
	for _, start := range []string{"(", `\frac`, `\sqrt`, `\pi`, "sqrt(", "pi"} {
		if tail, ok := strings.CutPrefix(rest, start); ok && (!isLetter(start[len(start)-1]) || tail == "" || !isLetter(tail[0])) {
			return true
		}
	}
	return false
}

func (p *numberParser) signed() (number, bool) {
	if p.take("-") {
		v, ok := p.unsigned()
		return multiply(v, rational(big.NewRat(-1, 1))), ok
	}
	p.take("+")
	return p.unsigned()
}

// unsigned is a power or a mixed number.
func (p *numberParser) unsigned() (number, bool) {
	if v, ok := p.mixed(); ok {
		return v, true
	}
	return p.power()
}

var mixedNumber = regexp.MustCompile(`^ *(\d+)(?: *\\frac *(?:(\d)|\{ *(\d+) *\}) *(?:(\d)|\{ *(\d+) *\})| +(\d+) */ *(\d+)\b)`)

// mixed reads an integer with a fraction of two integers behind it: 1\frac{1}{2}, 1 1/2.
func (p *numberParser) mixed() (number, bool) {
	m := mixedNumber.FindStringSubmatch(p.s[p.at:])
	if m == nil {
		return number{}, false
	}
	var parts []*big.Int
	for _, digits := range m[1:] {
		if digits != "" {
			n, _ := new(big.Int).SetString(digits, 10)
			parts = append(parts, n)
		}
	}
	if parts[2].Sign() == 0 {
		return number{}, false
	}
	p.at += len(m[0])
	r := new(big.Rat).SetFrac(parts[1], parts[2])
	return rational(r.Add(r, new(big.Rat).SetInt(parts[0]))), true
}

// digits reads a plain natural number.
func (p *numberParser) digits() (*big.Int, bool) {
	p.space()
	end := p.at
	for end < len(p.s) && isDigit(p.s[end]) {
		end++
	}
	if end == p.at || end-p.at > 1000 || end < len(p.s) && strings.ContainsRune(".,", rune(p.s[end])) {
		return nil, false
	}
	v, ok := new(big.Int).SetString(p.s[p.at:end], 10)
	p.at = end
	return v, ok
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func (p *numberParser) power() (number, bool) {
	v, ok := p.atom()
	if !ok || strings.HasPrefix(p.s[p.at:], `^\circ`) || strings.HasPrefix(p.s[p.at:], `^{\circ`) || !p.take("^") {
		return v, ok
	}
	minus := p.take("-")
	e, ok := p.argument()
	if minus {
		e = multiply(e, rational(big.NewRat(-1, 1)))
	}
	if !ok {
		return v, false
	}
	return raise(v, e)
}

// argument is a group in braces, or what LaTeX takes without them: one digit or one command.
func (p *numberParser) argument() (number, bool) {
	p.space()
	rest := p.s[p.at:]
	switch {
	case strings.HasPrefix(rest, "{"):
		inside, tail, ok := group(rest)
		if !ok {
			return number{}, false
		}
		q := &numberParser{s: inside, depth: p.depth}
		v, ok := q.sum()
		q.space()
		p.at = len(p.s) - len(tail)
		return v, ok && q.at == len(inside)
	case rest != "" && isDigit(rest[0]):
		p.at++
		return rational(big.NewRat(int64(rest[0]-'0'), 1)), true
	}
	return p.atom()
}

func (p *numberParser) atom() (number, bool) {
	if p.depth++; p.depth > maxDepth {
		return number{}, false
	}
	defer func() { p.depth-- }()
	switch {
	case p.take(`\frac`):
		a, ok1 := p.argument()
		b, ok2 := p.argument()
		if !ok1 || !ok2 {
			return a, false
		}
		return divide(a, b)
	case p.take(`\sqrt`):
		return p.root()
	case p.take("sqrt("):
		p.at--
		v, ok := p.parenthesis()
		if !ok {
			return v, false
		}
		return root(v, 2)
	case p.take(`\pi`), p.take("pi"):
		return irrational(math.Pi), true
	case p.take("("):
		p.at--
		return p.parenthesis()
	case p.take("{"):
		p.at--
		return p.argument()
	}
	return p.decimal()
}

func (p *numberParser) parenthesis() (number, bool) {
	p.at++
	thousands := p.thousands
	p.thousands = false // a comma in brackets separates
	v, ok := p.sum()
	p.thousands = thousands
	return v, ok && p.take(")")
}

// root reads what follows \sqrt: [n] or nothing, then the argument.
func (p *numberParser) root() (number, bool) {
	degree := int64(2)
	if p.take("[") {
		n, ok := p.digits()
		if !ok || !p.take("]") || !n.IsInt64() || n.Int64() < 2 || n.Int64() > 64 {
			return number{}, false
		}
		degree = n.Int64()
	}
	v, ok := p.argument()
	if !ok {
		return v, false
	}
	return root(v, degree)
}

// decimal reads digits with a point, an exponent and, where they are allowed, thousands commas.
func (p *numberParser) decimal() (number, bool) {
	p.space()
	end, point := p.at, false
	for ; end < len(p.s); end++ {
		c := p.s[end]
		if c == '.' && !point {
			point = true
		} else if !isDigit(c) && !(c == ',' && !point && p.thousands && p.groupAt(end)) {
			break
		}
	}
	text := strings.ReplaceAll(p.s[p.at:end], ",", "")
	if strings.Trim(text, ".") == "" || len(text) > 1000 {
		return number{}, false
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return number{}, false
	}
	p.at = end
	v := rational(r)
	if rest := p.s[end:]; len(rest) > 1 && (rest[0] == 'e' || rest[0] == 'E') {
		p.at++
		negative := p.take("-")
		p.take("+")
		e, ok := p.digits()
		if !ok {
			p.at = end
			return v, true
		}
		if negative {
			e.Neg(e)
		}
		scale, ok := raise(rational(big.NewRat(10, 1)), rational(new(big.Rat).SetInt(e)))
		return multiply(v, scale), ok
	}
	return v, true
}

// groupAt reports whether the comma at i stands behind one to three digits or a whole group, and before exactly three.
func (p *numberParser) groupAt(i int) bool {
	after := 0
	for j := i + 1; j < len(p.s) && isDigit(p.s[j]); j++ {
		after++
	}
	before := 0
	for j := i - 1; j >= p.at && isDigit(p.s[j]); j-- {
		before++
	}
	first := i-before == p.at
	return after == 3 && (first && before >= 1 && before <= 3 || !first && before == 3)
}

func bounded(v number) bool {
	return v.exact == nil || v.exact.Num().BitLen() < maxBits && v.exact.Denom().BitLen() < maxBits
}

func add(a, b number) number {
	if a.exact != nil && b.exact != nil {
		return rational(new(big.Rat).Add(a.exact, b.exact))
	}
	return irrational(a.float() + b.float())
}

func multiply(a, b number) number {
	if a.exact != nil && b.exact != nil {
		return rational(new(big.Rat).Mul(a.exact, b.exact))
	}
	return irrational(a.float() * b.float())
}

func divide(a, b number) (number, bool) {
	if b.float() == 0 {
		return number{}, false
	}
	if a.exact != nil && b.exact != nil {
		return rational(new(big.Rat).Quo(a.exact, b.exact)), true
	}
	return irrational(a.float() / b.float()), true
}

// raise is exact for integer exponents as long as the result is of a sane size.
func raise(a, e number) (number, bool) {
	if e.exact == nil || a.exact == nil || !e.exact.IsInt() {
		if e.exact != nil && a.exact != nil && e.exact.Denom().IsInt64() && e.exact.Denom().Int64() <= 64 {
			if r, ok := root(a, e.exact.Denom().Int64()); ok { // 4^{1/2}
				return raise(r, rational(new(big.Rat).SetInt(e.exact.Num())))
			}
		}
		f := math.Pow(a.float(), e.float())
		return irrational(f), !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	n := e.exact.Num()
	size := max(a.exact.Num().BitLen(), a.exact.Denom().BitLen())
	if !n.IsInt64() || n.Int64() > maxBits || n.Int64() < -maxBits || int64(size)*max(n.Int64(), -n.Int64()) > maxBits {
		return number{}, false
	}
	if n.Sign() < 0 && a.exact.Sign() == 0 {
		return number{}, false
	}
	abs := new(big.Int).Abs(n)
	r := new(big.Rat).SetFrac(new(big.Int).Exp(a.exact.Num(), abs, nil), new(big.Int).Exp(a.exact.Denom(), abs, nil))
	if n.Sign() < 0 {
		r.Inv(r)
	}
	return rational(r), true
}

// root is exact where the root of a rational number is rational.
func root(a number, degree int64) (number, bool) {
	f := a.float()
	if f < 0 && degree%2 == 0 {
		return number{}, false
	}
	if a.exact != nil {
		num, ok1 := integerRoot(a.exact.Num(), degree)
		den, ok2 := integerRoot(a.exact.Denom(), degree)
		if ok1 && ok2 {
			return rational(new(big.Rat).SetFrac(num, den)), true
		}
	}
	if f < 0 {
		return irrational(-math.Pow(-f, 1/float64(degree))), true
	}
	if degree == 2 {
		return irrational(math.Sqrt(f)), true
	}
	return irrational(math.Pow(f, 1/float64(degree))), true
}

// integerRoot is the root of n if it is an integer.
func integerRoot(n *big.Int, degree int64) (*big.Int, bool) {
	abs := new(big.Int).Abs(n)
	var r *big.Int
	if degree == 2 {
		r = new(big.Int).Sqrt(abs)
	} else {
		f, _ := new(big.Float).SetInt(abs).Float64()
		r, _ = new(big.Float).SetFloat64(math.Round(math.Pow(f, 1/float64(degree)))).Int(nil)
		if r == nil {
			return nil, false
		}
	}
	if new(big.Int).Exp(r, big.NewInt(degree), nil).Cmp(abs) != 0 {
		return nil, false
	}
	if n.Sign() < 0 {
		r.Neg(r)
	}
	return r, true
}
