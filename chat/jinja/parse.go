package jinja

import (
	"math/big"
	"strconv"
)

// parser builds the tree of a template. Faults are panics of *Error, caught by Parse.
type parser struct {
	tokens  []token
	pos     int
	depth   int
	loops   int
	names   []map[string]bool     // names read in the macros around, innermost last
	filters map[string]filterFunc // besides Jinja's own
}

// maxDepth bounds how deep expressions and blocks nest.
const maxDepth = 250

func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		p.fail("nests deeper than %d", maxDepth)
	}
}

func (p *parser) fail(format string, args ...any) { failAt(p.cur().line, format, args...) }
func (p *parser) cur() token                      { return p.tokens[p.pos] }
func (p *parser) peek() token                     { return p.tokens[min(p.pos+1, len(p.tokens)-1)] }
func (p *parser) advance() token {
	t := p.tokens[p.pos]
	if p.pos < len(p.tokens)-1 {
		p.pos++
	}
	return t
}

func (p *parser) isOp(op string) bool  { t := p.cur(); return t.kind == tOp && t.text == op }
func (p *parser) isName(n string) bool { t := p.cur(); return t.kind == tName && t.text == n }
func (p *parser) skipOp(op string) bool {
	if p.isOp(op) {
		p.advance()
		return true
	}
	return false
}
func (p *parser) skipName(n string) bool {
	if p.isName(n) {
		p.advance()
		return true
	}
	return false
}
func (p *parser) expectOp(op string) {
	if !p.skipOp(op) {
		p.fail("want %q, got %s", op, p.describe())
	}
}
func (p *parser) expectName() string {
	if p.cur().kind != tName {
		p.fail("want a name, got %s", p.describe())
	}
	return p.advance().text
}
func (p *parser) expect(k kind) {
	if p.cur().kind != k {
		p.fail("want the end of the tag, got %s", p.describe())
	}
	p.advance()
}

func (p *parser) describe() string {
	switch t := p.cur(); t.kind {
	case tEOF:
		return "the end of the template"
	case tPrintEnd:
		return "}}"
	case tBlockEnd:
		return "%}"
	default:
		return strconv.Quote(t.text)
	}
}

// body reads statements up to a block tag that starts with one of the given words, which it consumes, and returns it.
func (p *parser) body(until ...string) ([]stmt, string) {
	p.enter()
	defer func() { p.depth-- }()
	var list []stmt
	for {
		switch t := p.cur(); t.kind {
		case tEOF:
			if len(until) > 0 {
				p.fail("the template ends before {%% %s %%}", until[len(until)-1])
			}
			return list, ""
		case tText:
			p.advance()
			list = append(list, &textStmt{t.text})
		case tPrint:
			p.advance()
			list = append(list, &printStmt{p.tuple(true), t.line})
			p.expect(tPrintEnd)
		default:
			p.advance()
			word := p.cur()
			for _, u := range until {
				if p.isName(u) {
					p.advance()
					return list, u
				}
			}
			if word.kind != tName {
				p.fail("want a tag name, got %s", p.describe())
			}
			p.advance()
			list = append(list, p.statement(word.text, t.line))
			if p.cur().kind != tBlockEnd {
				p.fail("{%% %s %%}: unexpected %s", word.text, p.describe())
			}
			p.advance()
		}
	}
}

// block reads the end of a tag, a body and the tag that closes it, up to that tag's end.
func (p *parser) block(until string) []stmt {
	p.expect(tBlockEnd)
	list, _ := p.body(until)
	return list
}

func (p *parser) statement(word string, line int) stmt {
	switch word {
	case "if":
		return p.ifStmt()
	case "for":
		return p.forStmt(line)
	case "set":
		return p.setStmt(line)
	case "macro":
		name := p.expectName()
		return &macroStmt{p.macro(name, "endmacro")}
	case "call":
		m := &macro{}
		p.names = append(p.names, map[string]bool{})
		if p.isOp("(") {
			p.signature(m)
		}
		call, ok := p.expression().(*callExpr)
		if !ok {
			p.fail("{%% call %%}: want a call")
		}
		p.macroBody(m, "endcall")
		return &callStmt{m, call}
	case "filter":
		f := p.filterChain(p.filter(&bodyExpr{}, line), line)
		body := p.block("endfilter")
		return &filterStmt{f, body}
	case "with":
		w := &withStmt{}
		for p.cur().kind != tBlockEnd {
			if len(w.names) > 0 {
				p.expectOp(",")
			}
			w.names = append(w.names, p.expectName())
			p.expectOp("=")
			w.values = append(w.values, p.expression())
		}
		w.body = p.block("endwith")
		return w
	case "generation":
		return &generationStmt{p.block("endgeneration")}
	case "break", "continue":
		if p.loops == 0 {
			p.fail("{%% %s %%} outside of a loop", word)
		}
		return &jumpStmt{word == "break"}
	case "block":
		p.expectName()
		p.skipName("scoped")
		p.skipName("required")
		body := p.block("endblock")
		if p.cur().kind == tName {
			p.advance()
		}
		return &scopeStmt{body}
	case "autoescape":
		if !p.skipName("false") {
			p.fail("autoescape: chat templates make no HTML")
		}
		return &scopeStmt{p.block("endautoescape")}
	case "include", "import", "from", "extends":
		for p.cur().kind != tBlockEnd && p.cur().kind != tEOF {
			p.advance()
		}
		return &failStmt{line, word + ": there are no other templates"}
	}
	p.fail("unknown tag %q", word)
	return nil
}

func (p *parser) ifStmt() stmt {
	s := &ifStmt{}
	for {
		s.conds = append(s.conds, p.tuple(false))
		p.expect(tBlockEnd)
		body, word := p.body("elif", "else", "endif")
		s.bodies = append(s.bodies, body)
		switch word {
		case "endif":
			return s
		case "else":
			s.otherwise = p.block("endif")
			return s
		}
	}
}

func (p *parser) forStmt(line int) stmt {
	s := &forStmt{line: line, target: p.target()}
	if !p.skipName("in") {
		p.fail("{%% for %%}: want \"in\", got %s", p.describe())
	}
	s.over = p.tuple(false, "recursive")
	if p.skipName("if") {
		s.cond = p.expression()
	}
	s.recursive = p.skipName("recursive")
	p.expect(tBlockEnd)
	p.loops++
	body, word := p.body("else", "endfor")
	p.loops--
	s.body = body
	if word == "else" {
		s.otherwise = p.block("endfor")
	}
	return s
}

func (p *parser) setStmt(line int) stmt {
	s := &setStmt{line: line}
	if p.cur().kind == tName && p.peek().kind == tOp && p.peek().text == "." {
		s.space = p.advance().text
		p.advance()
		s.attr = p.expectName()
		p.read(s.space)
	} else {
		s.target = p.target()
	}
	if p.skipOp("=") {
		s.value = p.tuple(true)
		return s
	}
	s.filter = p.filterChain(&bodyExpr{}, line)
	s.body = p.block("endset")
	return s
}

// target reads a name or a tuple of targets.
func (p *parser) target() target {
	list, comma := []target{}, false
	for {
		if p.skipOp("(") {
			list = append(list, p.target())
			p.expectOp(")")
		} else {
			list = append(list, target{name: p.expectName()})
		}
		if !p.skipOp(",") {
			break
		}
		comma = true
		if p.cur().kind != tName && !p.isOp("(") || p.isName("in") {
			break
		}
	}
	if len(list) == 1 && !comma {
		return list[0]
	}
	return target{parts: list}
}

func (p *parser) macro(name, end string) *macro {
	m := &macro{name: name}
	p.names = append(p.names, map[string]bool{})
	p.signature(m)
	p.macroBody(m, end)
	return m
}

func (p *parser) signature(m *macro) {
	p.expectOp("(")
	for !p.skipOp(")") {
		if len(m.params) > 0 {
			p.expectOp(",")
		}
		m.params = append(m.params, p.expectName())
		if p.skipOp("=") {
			m.defaults = append(m.defaults, p.expression())
		} else if len(m.defaults) > 0 {
			p.fail("a parameter without a default behind one that has one")
		}
	}
}

// macroBody reads the body and closes the set of names that the caller opened.
func (p *parser) macroBody(m *macro, end string) {
	loops := p.loops
	p.loops = 0
	m.body = p.block(end)
	p.loops = loops
	read := p.names[len(p.names)-1]
	p.names = p.names[:len(p.names)-1]
	m.varargs, m.kwargs, m.caller = read["varargs"], read["kwargs"], read["caller"]
	for _, outer := range p.names {
		for n := range read {
			outer[n] = true
		}
	}
}

func (p *parser) read(name string) {
	if n := len(p.names); n > 0 {
		p.names[n-1][name] = true
	}
}

// tuple reads expressions separated by commas; with one and no comma it is that expression.
func (p *parser) tuple(conditions bool, endWords ...string) expr {
	one := p.or
	if conditions {
		one = p.expression
	}
	line := p.cur().line
	atEnd := func() bool {
		t := p.cur()
		if t.kind == tPrintEnd || t.kind == tBlockEnd || t.kind == tOp && t.text == ")" {
			return true
		}
		for _, w := range endWords {
			if p.isName(w) {
				return true
			}
		}
		return false
	}
	var items []expr
	comma := false
	for !atEnd() {
		items = append(items, one())
		if comma = p.isOp(","); !comma {
			break
		}
		p.advance()
	}
	switch {
	case len(items) == 0:
		p.fail("want an expression, got %s", p.describe())
	case len(items) == 1 && !comma:
		return items[0]
	}
	return &listExpr{items, true, line}
}

func (p *parser) expression() expr {
	p.enter()
	defer func() { p.depth-- }()
	e := p.or()
	for p.skipName("if") {
		cond := p.or()
		var otherwise expr
		if p.skipName("else") {
			otherwise = p.expression()
		}
		e = &condExpr{cond, e, otherwise}
	}
	return e
}

func (p *parser) or() expr {
	e := p.and()
	for p.skipName("or") {
		e = &logicExpr{e, p.and(), true}
	}
	return e
}

func (p *parser) and() expr {
	e := p.not()
	for p.skipName("and") {
		e = &logicExpr{e, p.not(), false}
	}
	return e
}

func (p *parser) not() expr {
	if p.skipName("not") {
		p.enter()
		defer func() { p.depth-- }()
		return &notExpr{p.not()}
	}
	return p.compare()
}

func (p *parser) compare() expr {
	e := p.math1()
	var c *compareExpr
	for {
		op, line := "", p.cur().line
		switch t := p.cur(); {
		case t.kind == tOp && (t.text == "==" || t.text == "!=" || t.text == "<" || t.text == "<=" || t.text == ">" || t.text == ">="):
			op = t.text
			p.advance()
		case p.isName("in"):
			op = "in"
			p.advance()
		case p.isName("not") && p.peek().kind == tName && p.peek().text == "in":
			op = "not in"
			p.advance()
			p.advance()
		default:
			if c == nil {
				return e
			}
			return c
		}
		if c == nil {
			c = &compareExpr{first: e, line: line}
		}
		c.ops, c.rest = append(c.ops, op), append(c.rest, p.math1())
	}
}

func (p *parser) binary(next func() expr, ops ...string) expr {
	e := next()
	for {
		t, found := p.cur(), false
		for _, op := range ops {
			found = found || t.kind == tOp && t.text == op
		}
		if !found {
			return e
		}
		p.advance()
		e = &binaryExpr{t.text, e, next(), t.line}
	}
}

func (p *parser) math1() expr  { return p.binary(p.concat, "+", "-") }
func (p *parser) math2() expr  { return p.binary(p.pow, "*", "/", "//", "%") }
func (p *parser) pow() expr    { return p.binary(func() expr { return p.unary(true) }, "**") }
func (p *parser) concat() expr { return p.binary(p.math2, "~") }

// unary reads a sign or a primary with what follows it: attributes, items, calls, filters and tests.
func (p *parser) unary(filters bool) expr {
	p.enter()
	defer func() { p.depth-- }()
	t := p.cur()
	var e expr
	switch {
	case t.kind == tOp && (t.text == "-" || t.text == "+"):
		p.advance()
		e = &signExpr{p.unary(false), t.text == "-", t.line}
	default:
		e = p.primary()
	}
	e = p.postfix(e)
	if filters {
		e = p.filterChain(e, t.line)
	}
	return e
}

func (p *parser) primary() expr {
	t := p.cur()
	switch t.kind {
	case tName:
		p.advance()
		switch t.text {
		case "true", "True":
			return &constExpr{true}
		case "false", "False":
			return &constExpr{false}
		case "none", "None":
			return &constExpr{nil}
		}
		p.read(t.text)
		return &nameExpr{t.text}
	case tString:
		p.advance()
		s := t.text
		for p.cur().kind == tString {
			s += p.advance().text
		}
		return &constExpr{s}
	case tInt:
		p.advance()
		if n, err := strconv.ParseInt(t.text, 0, 64); err == nil {
			return &constExpr{n}
		}
		if n, ok := new(big.Int).SetString(t.text, 0); ok && len(t.text) <= 4300 {
			return &constExpr{n}
		}
		p.fail("bad integer %.40q", t.text)
	case tFloat:
		p.advance()
		f, _ := strconv.ParseFloat(t.text, 64) // too large a number is infinity, as in Python
		return &constExpr{f}
	case tOp:
		switch t.text {
		case "(":
			p.advance()
			if p.skipOp(")") {
				return &listExpr{nil, true, t.line}
			}
			p.enter()
			e := p.tuple(true)
			p.depth--
			p.expectOp(")")
			return e
		case "[":
			p.advance()
			l := &listExpr{line: t.line}
			for !p.skipOp("]") {
				if len(l.items) > 0 {
					p.expectOp(",")
					if p.skipOp("]") {
						break
					}
				}
				l.items = append(l.items, p.expression())
			}
			return l
		case "{":
			p.advance()
			d := &dictExpr{line: t.line}
			for !p.skipOp("}") {
				if len(d.keys) > 0 {
					p.expectOp(",")
					if p.skipOp("}") {
						break
					}
				}
				d.keys = append(d.keys, p.expression())
				p.expectOp(":")
				d.vals = append(d.vals, p.expression())
			}
			return d
		}
	}
	p.fail("want an expression, got %s", p.describe())
	return nil
}

func (p *parser) postfix(e expr) expr {
	for {
		t := p.cur()
		if t.kind != tOp {
			return e
		}
		switch t.text {
		case ".":
			p.advance()
			switch a := p.advance(); a.kind {
			case tName:
				e = &attrExpr{e, a.text, t.line}
			case tInt:
				n, err := strconv.ParseInt(a.text, 10, 64)
				if err != nil {
					p.fail("bad index %q", a.text)
				}
				e = &itemExpr{e, &constExpr{n}, t.line}
			default:
				p.pos--
				p.fail("want a name or a number behind \".\", got %s", p.describe())
			}
		case "[":
			p.advance()
			e = &itemExpr{e, p.subscript(), t.line}
			p.expectOp("]")
		case "(":
			e = &callExpr{e, p.arguments(), t.line}
		default:
			return e
		}
	}
}

// subscript reads an index, a slice, or a tuple of indices.
func (p *parser) subscript() expr {
	line := p.cur().line
	var items []expr
	for {
		items = append(items, p.oneSubscript())
		if !p.skipOp(",") {
			break
		}
	}
	if len(items) == 1 {
		return items[0]
	}
	return &listExpr{items, true, line}
}

func (p *parser) oneSubscript() expr {
	s := &sliceExpr{line: p.cur().line}
	if !p.isOp(":") {
		e := p.expression()
		if !p.isOp(":") {
			return e
		}
		s.from = e
	}
	p.expectOp(":")
	if !p.isOp(":") && !p.isOp("]") && !p.isOp(",") {
		s.to = p.expression()
	}
	if p.skipOp(":") && !p.isOp("]") && !p.isOp(",") {
		s.step = p.expression()
	}
	return s
}

func (p *parser) arguments() *argsExpr {
	p.expectOp("(")
	a := &argsExpr{}
	for n := 0; !p.skipOp(")"); n++ {
		if n > 0 {
			p.expectOp(",")
			if p.skipOp(")") {
				break
			}
		}
		switch {
		case p.skipOp("*"):
			a.star = p.expression()
		case p.skipOp("**"):
			a.starStar = p.expression()
		case p.cur().kind == tName && p.peek().kind == tOp && p.peek().text == "=":
			a.names = append(a.names, p.advance().text)
			p.advance()
			a.named = append(a.named, p.expression())
		default:
			if len(a.names) > 0 || a.star != nil || a.starStar != nil {
				p.fail("a positional argument behind a named one")
			}
			a.pos = append(a.pos, p.expression())
		}
	}
	return a
}

// filterChain reads filters, tests and calls behind an expression.
func (p *parser) filterChain(e expr, line int) expr {
	for {
		switch {
		case p.skipOp("|"):
			e = p.filter(e, line)
		case p.isName("is"):
			p.advance()
			e = p.test(e)
		case p.isOp("("):
			e = &callExpr{e, p.arguments(), line}
		default:
			return e
		}
	}
}

// filter reads one filter. A name that there is not fails when it is run: templates written for other engines may use
// it in branches that are not taken.
func (p *parser) filter(e expr, line int) expr {
	name := p.dotted()
	f, ok := filters[name]
	if !ok {
		f, ok = p.filters[name]
	}
	if !ok {
		f = func(r *run, _ Value, _ *args) Value { r.fail("no filter named %q", name); return nil }
	}
	a := &argsExpr{}
	if p.isOp("(") {
		a = p.arguments()
	}
	marks := name == "escape" || name == "e" || name == "default" || name == "d" // they look at whether a string is marked as HTML
	return &filterExpr{e, f, a, marks, line}
}

func (p *parser) dotted() string {
	name := p.expectName()
	for p.isOp(".") {
		p.advance()
		name += "." + p.expectName()
	}
	return name
}

func (p *parser) test(e expr) expr {
	line := p.cur().line
	negate := p.skipName("not")
	name := p.dotted()
	f, ok := tests[name]
	if !ok {
		f = func(r *run, _ Value, _ *args) bool { r.fail("no test named %q", name); return false }
	}
	a := &argsExpr{}
	switch t := p.cur(); {
	case p.isOp("("):
		a = p.arguments()
	case t.kind == tName && t.text != "else" && t.text != "or" && t.text != "and" && t.text != "is" && t.text != "if" && t.text != "not" && t.text != "in" && t.text != "recursive",
		t.kind == tString, t.kind == tInt, t.kind == tFloat, t.kind == tOp && (t.text == "[" || t.text == "{"):
		a.pos = []expr{p.postfix(p.primary())}
	}
	return &testExpr{e, f, a, negate, line}
}
