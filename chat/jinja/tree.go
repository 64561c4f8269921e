package jinja

// A template is a tree of statements and expressions, which run themselves.

type stmt interface {
	// run writes what the statement prints; a jump other than none leaves the statements around it.
	run(r *run, s *scope) jump
}

type expr interface {
	eval(r *run, s *scope) Value
}

type jump uint8

const (
	none jump = iota
	breaks
	continues
)

type (
	textStmt  struct{ text string }
	printStmt struct {
		e    expr
		line int
	}
	ifStmt struct {
		conds     []expr
		bodies    [][]stmt
		otherwise []stmt
	}
	forStmt struct {
		line      int
		target    target
		over      expr
		cond      expr // nil: all items
		recursive bool
		body      []stmt
		otherwise []stmt
	}
	// setStmt assigns a value, or what the body prints, to a target or to an attribute of a namespace.
	setStmt struct {
		line        int
		target      target
		space, attr string
		value       expr
		filter      expr // over a bodyExpr
		body        []stmt
	}
	macroStmt struct{ m *macro }
	callStmt  struct {
		caller *macro
		call   *callExpr
	}
	filterStmt struct {
		filter expr // over a bodyExpr
		body   []stmt
	}
	withStmt struct {
		names  []string
		values []expr
		body   []stmt
	}
	generationStmt struct{ body []stmt }
	scopeStmt      struct{ body []stmt }
	jumpStmt       struct{ breaks bool }
	failStmt       struct {
		line    int
		message string
	}
)

// target is what an assignment assigns to: a name, or parts for the items of the value.
type target struct {
	name  string
	parts []target
}

type (
	constExpr struct{ v Value }
	nameExpr  struct{ name string }
	bodyExpr  struct{} // what the block around a filter chain printed
	listExpr  struct {
		items []expr
		tuple bool
		line  int
	}
	dictExpr struct {
		keys, vals []expr
		line       int
	}
	condExpr  struct{ cond, then, otherwise expr }
	logicExpr struct {
		a, b expr
		or   bool
	}
	notExpr     struct{ e expr }
	compareExpr struct {
		first expr
		ops   []string
		rest  []expr
		line  int
	}
	binaryExpr struct {
		op   string
		a, b expr
		line int
	}
	signExpr struct {
		e     expr
		minus bool
		line  int
	}
	attrExpr struct {
		e    expr
		name string
		line int
	}
	itemExpr struct {
		e, key expr
		line   int
	}
	sliceExpr struct {
		from, to, step expr
		line           int
	}
	callExpr struct {
		f    expr
		args *argsExpr
		line int
	}
	filterExpr struct {
		e     expr
		f     filterFunc
		args  *argsExpr
		marks bool
		line  int
	}
	testExpr struct {
		e      expr
		f      testFunc
		args   *argsExpr
		negate bool
		line   int
	}
)

type argsExpr struct {
	pos            []expr
	names          []string
	named          []expr
	star, starStar expr
}
