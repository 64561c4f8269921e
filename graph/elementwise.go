package graph

import (
	"fmt"
	"slices"

	"danlu/dtype"
)

// UnaryKind names a function of one number.
type UnaryKind uint8

// The functions of one number.
const (
	UnaryNeg UnaryKind = iota
	UnaryExp
	UnaryLog
	UnaryTanh
	UnaryErf
	UnarySqrt
	UnaryRsqrt
	UnaryAbs
	UnarySign
	UnaryFloor
	UnarySin
	UnaryCos
	UnarySigmoid
	UnaryNot // of Bool
)

var unaryNames = [...]string{"neg", "exp", "log", "tanh", "erf", "sqrt", "rsqrt", "abs", "sign", "floor", "sin", "cos", "sigmoid", "not"}

func (k UnaryKind) String() string { return unaryNames[k] }

// Unary applies a function to each element.
type Unary struct{ Kind UnaryKind }

// Name implements Op.
func (o Unary) Name() string { return o.Kind.String() }

// Infer implements Op.
func (o Unary) Infer(in []Type) ([]Type, error) {
	if o.Kind == UnaryNot && in[0].DType != dtype.Bool {
		return nil, fmt.Errorf("want bool, got %v", in[0].DType)
	}
	return []Type{Of(in[0].DType, in[0].Shape...)}, nil
}

// BinaryKind names a function of two numbers.
type BinaryKind uint8

// The functions of two numbers. Comparisons give Bool.
const (
	BinaryAdd BinaryKind = iota
	BinarySub
	BinaryMul
	BinaryDiv // integers: rounds towards zero
	BinaryMax
	BinaryMin
	BinaryPow
	BinaryRem // sign of the dividend
	BinaryEqual
	BinaryNotEqual
	BinaryLess
	BinaryLessEqual
	BinaryGreater
	BinaryGreaterEqual
	BinaryAnd // of Bool
	BinaryOr  // of Bool
)

var binaryNames = [...]string{"add", "sub", "mul", "div", "max", "min", "pow", "rem", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "and", "or"}

func (k BinaryKind) String() string { return binaryNames[k] }

// Compares reports whether k's result is Bool whatever the operands.
func (k BinaryKind) Compares() bool { return k >= BinaryEqual }

// Binary applies a function to pairs of elements. Shapes are aligned at the last axis; axes of size one are repeated.
type Binary struct{ Kind BinaryKind }

// Name implements Op.
func (o Binary) Name() string { return o.Kind.String() }

// Infer implements Op.
func (o Binary) Infer(in []Type) ([]Type, error) {
	if in[0].DType != in[1].DType {
		return nil, fmt.Errorf("element types differ; cast one")
	}
	shape, err := BroadcastShapes(in[0].Shape, in[1].Shape)
	if err != nil {
		return nil, err
	}
	if o.Kind.Compares() {
		return []Type{Of(dtype.Bool, shape...)}, nil
	}
	return []Type{Of(in[0].DType, shape...)}, nil
}

// BroadcastShapes aligns shapes at the last axis and repeats axes of size one.
func BroadcastShapes(a, b []int) ([]int, error) {
	shape := make([]int, max(len(a), len(b)))
	for i := range shape {
		x, y := 1, 1
		if k := i - len(shape) + len(a); k >= 0 {
			x = a[k]
		}
		if k := i - len(shape) + len(b); k >= 0 {
			y = b[k]
		}
		switch {
		case x == y || y == 1:
			shape[i] = x
		case x == 1:
			shape[i] = y
		default:
			return nil, fmt.Errorf("shapes %v and %v do not broadcast", a, b)
		}
	}
	return shape, nil
}

// Select takes elements of the second operand where the first (Bool) holds and of the third elsewhere, with the
// broadcasting of Binary.
type Select struct{}

// Name implements Op.
func (Select) Name() string { return "select" }

// Infer implements Op.
func (Select) Infer(in []Type) ([]Type, error) {
	if in[0].DType != dtype.Bool || in[1].DType != in[2].DType {
		return nil, fmt.Errorf("want a bool and two values of one type")
	}
	shape, err := BroadcastShapes(in[1].Shape, in[2].Shape)
	if err == nil {
		shape, err = BroadcastShapes(in[0].Shape, shape)
	}
	return []Type{Of(in[1].DType, shape...)}, err
}

// Cast converts elements: to floats by round to nearest even, to integers towards zero; block-quantized storage is
// dequantized.
type Cast struct{ To dtype.DType }

// Name implements Op.
func (o Cast) Name() string { return "cast " + o.To.String() }

// Infer implements Op.
func (o Cast) Infer(in []Type) ([]Type, error) {
	if o.To.IsQuantized() {
		return nil, fmt.Errorf("cannot cast to block-quantized %v", o.To)
	}
	return []Type{Of(o.To, in[0].Shape...)}, nil
}

// Same is the identity; it gives a value a second name while gradients are built.
type Same struct{}

// Name implements Op.
func (Same) Name() string { return "same" }

// Infer implements Op.
func (Same) Infer(in []Type) ([]Type, error) { return []Type{Of(in[0].DType, in[0].Shape...)}, nil }

// StopGradient is the identity with gradient zero.
type StopGradient struct{}

// Name implements Op.
func (StopGradient) Name() string { return "stop_gradient" }

// Infer implements Op.
func (StopGradient) Infer(in []Type) ([]Type, error) {
	return []Type{Of(in[0].DType, in[0].Shape...)}, nil
}

// Random gives numbers from Philox4x32-10 (Salmon et al., SC'11), keyed by the operand (U32 [2]: seed, step), by Stream,
// which differs for each random operation of a program, and by the element's index: the same on every engine and when
// computed again.
type Random struct {
	Kind   RandomKind
	Shape  []int
	Stream uint32
}

// RandomKind is a distribution.
type RandomKind uint8

// The distributions.
const (
	RandomUniform RandomKind = iota // float32 in [0,1): the high 24 bits over 2^24
	RandomNormal                    // float32, Box-Muller of two neighbouring uniforms
	RandomBits                      // uint32
)

// Name implements Op.
func (o Random) Name() string { return "random" }

// Infer implements Op.
func (o Random) Infer(in []Type) ([]Type, error) {
	if !in[0].Equal(Of(dtype.U32, 2)) {
		return nil, fmt.Errorf("want a u32[2] key of seed and step")
	}
	if o.Kind == RandomBits {
		return []Type{Of(dtype.U32, o.Shape...)}, nil
	}
	return []Type{Of(dtype.F32, o.Shape...)}, nil
}

// Neg is -x, and so on: each function adds one node.
func Neg(x *Value) *Value     { return one(Unary{UnaryNeg}, x) }
func Exp(x *Value) *Value     { return one(Unary{UnaryExp}, x) }
func Log(x *Value) *Value     { return one(Unary{UnaryLog}, x) }
func Tanh(x *Value) *Value    { return one(Unary{UnaryTanh}, x) }
func Erf(x *Value) *Value     { return one(Unary{UnaryErf}, x) }
func Sqrt(x *Value) *Value    { return one(Unary{UnarySqrt}, x) }
func Rsqrt(x *Value) *Value   { return one(Unary{UnaryRsqrt}, x) }
func Abs(x *Value) *Value     { return one(Unary{UnaryAbs}, x) }
func Sign(x *Value) *Value    { return one(Unary{UnarySign}, x) }
func Floor(x *Value) *Value   { return one(Unary{UnaryFloor}, x) }
func Sin(x *Value) *Value     { return one(Unary{UnarySin}, x) }
func Cos(x *Value) *Value     { return one(Unary{UnaryCos}, x) }
func Sigmoid(x *Value) *Value { return one(Unary{UnarySigmoid}, x) }
func Not(x *Value) *Value     { return one(Unary{UnaryNot}, x) }

func Add(a, b *Value) *Value          { return one(Binary{BinaryAdd}, a, b) }
func Sub(a, b *Value) *Value          { return one(Binary{BinarySub}, a, b) }
func Mul(a, b *Value) *Value          { return one(Binary{BinaryMul}, a, b) }
func Div(a, b *Value) *Value          { return one(Binary{BinaryDiv}, a, b) }
func Max(a, b *Value) *Value          { return one(Binary{BinaryMax}, a, b) }
func Min(a, b *Value) *Value          { return one(Binary{BinaryMin}, a, b) }
func Pow(a, b *Value) *Value          { return one(Binary{BinaryPow}, a, b) }
func Rem(a, b *Value) *Value          { return one(Binary{BinaryRem}, a, b) }
func Equal(a, b *Value) *Value        { return one(Binary{BinaryEqual}, a, b) }
func NotEqual(a, b *Value) *Value     { return one(Binary{BinaryNotEqual}, a, b) }
func Less(a, b *Value) *Value         { return one(Binary{BinaryLess}, a, b) }
func LessEqual(a, b *Value) *Value    { return one(Binary{BinaryLessEqual}, a, b) }
func Greater(a, b *Value) *Value      { return one(Binary{BinaryGreater}, a, b) }
func GreaterEqual(a, b *Value) *Value { return one(Binary{BinaryGreaterEqual}, a, b) }
func And(a, b *Value) *Value          { return one(Binary{BinaryAnd}, a, b) }
func Or(a, b *Value) *Value           { return one(Binary{BinaryOr}, a, b) }

// Where takes a where cond holds and b elsewhere.
func Where(cond, a, b *Value) *Value { return one(Select{}, cond, a, b) }

// Convert casts x, or returns x when it has that type.
func Convert(x *Value, to dtype.DType) *Value {
	if x.DType == to {
		return x
	}
	return one(Cast{to}, x)
}

// NoGrad is x with gradient zero.
func NoGrad(x *Value) *Value { return one(StopGradient{}, x) }

// AddScalar is x + c, MulScalar x * c, for a constant c in x's type.
func AddScalar(x *Value, c float64) *Value { return Add(x, ConstLike(x, c)) }

// MulScalar is x * c.
func MulScalar(x *Value, c float64) *Value { return Mul(x, ConstLike(x, c)) }

// ConstLike is the constant c, without axes, in x's element type and graph.
func ConstLike(x *Value, c float64) *Value {
	return x.Graph().Const(scalar(x.DType, c))
}

// NewRandom adds a random operation; key is U32 [2].
func NewRandom(kind RandomKind, key *Value, stream uint32, shape ...int) *Value {
	return one(Random{kind, slices.Clone(shape), stream}, key)
}
