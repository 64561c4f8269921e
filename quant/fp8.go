package quant

import (
	"fmt"
	"math"
)

// The OCP 8-bit floats: e4m3fn (bias 7, largest 448, no infinity, NaN 0x7f) and e5m2 (bias 15, largest 57344, infinity 0x7c).
var e4m3Table, e5m2Table = fp8Tables()

func fp8Tables() (e4m3, e5m2 [256]float32) {
	for i := range 256 {
		// e5m2 is the upper byte of a half; e4m3fn is computed from its fields.
		e5m2[i] = HalfToF32(uint16(i) << 8)
		e, m := i>>3&15, i&7
		v := math.Ldexp(float64(8+m), e-10)
		switch {
		case e == 0:
			v = math.Ldexp(float64(m), -9)
		case e == 15 && m == 7:
			v = math.NaN()
		}
		if i&0x80 != 0 {
			v = math.Copysign(v, -1)
		}
		e4m3[i] = float32(v)
	}
	return e4m3, e5m2
}

// E4M3ToF32 is the value of an e4m3fn code.
func E4M3ToF32(c byte) float32 { return e4m3Table[c] }

// E5M2ToF32 is the value of an e5m2 code.
func E5M2ToF32(c byte) float32 { return e5m2Table[c] }

// F32ToE4M3 rounds x to an e4m3fn code, ties to even; what rounds beyond 448, infinities included, becomes NaN.
func F32ToE4M3(x float32) byte {
	b := math.Float32bits(x)
	sign := byte(b >> 24 & 0x80)
	b &= 0x7fffffff
	switch {
	case b >= 0x43f00000: // 480 and above
		return sign | 0x7f
	case b < 0x3c800000: // below 2^-6: adding 2^14 leaves units of 2^-9
		return sign | byte(math.Float32bits(math.Float32frombits(b)+1<<14)-0x46800000)
	}
	return sign | byte((b+0x7ffff+b>>20&1-120<<23)>>20)
}

// F32ToE5M2 rounds x to an e5m2 code, ties to even; what rounds beyond 57344 becomes infinite, NaN stays NaN.
func F32ToE5M2(x float32) byte {
	b := math.Float32bits(x)
	sign := byte(b >> 24 & 0x80)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7f
	case b >= 0x47800000: // 65536 and above
		return sign | 0x7c
	case b < 0x38800000: // below 2^-14: adding 2^7 leaves units of 2^-16
		return sign | byte(math.Float32bits(math.Float32frombits(b)+1<<7)-0x43000000)
	}
	return sign | byte((b+0xfffff+b>>21&1-112<<23)>>21)
}

func decodeE4M3(dst []float32, src []byte) {
	for i, c := range src {
		dst[i] = e4m3Table[c]
	}
}

func decodeE5M2(dst []float32, src []byte) {
	for i, c := range src {
		dst[i] = e5m2Table[c]
	}
}

func encodeE4M3(dst []byte, src []float32) {
	for i, x := range src {
		dst[i] = F32ToE4M3(x)
	}
}

func encodeE5M2(dst []byte, src []float32) {
	for i, x := range src {
		dst[i] = F32ToE5M2(x)
	}
}

// DequantizeFP8Tiles expands a [rows, cols] matrix of e4m3fn codes whose tiles of tile x tile (smaller at the edges) have the
// factors scaleInv, [ceil(rows/tile), ceil(cols/tile)]: DeepSeek-V3's weight_scale_inv, tile 128.
func DequantizeFP8Tiles(dst []float32, codes []byte, scaleInv []float32, rows, cols, tile int) error {
	if rows < 0 || cols < 0 || tile <= 0 || len(codes) != rows*cols || len(dst) != len(codes) {
		return fmt.Errorf("quant: fp8: [%d %d] in tiles of %d: got %d codes and room for %d values", rows, cols, tile, len(codes), len(dst))
	}
	across := (cols + tile - 1) / tile
	if want := (rows + tile - 1) / tile * across; len(scaleInv) != want {
		return fmt.Errorf("quant: fp8: weight_scale_inv: want %d factors, got %d", want, len(scaleInv))
	}
	for r := range rows {
		scales := scaleInv[r/tile*across:]
		for c := 0; c < cols; c += tile {
			s := scales[c/tile]
			end := min(c+tile, cols)
			y := dst[r*cols+c : r*cols+end]
			for i, code := range codes[r*cols+c : r*cols+end] {
				y[i] = e4m3Table[code] * s
			}
		}
	}
	return nil
}

// QuantizeFP8Groups stores x in groups of group values (a divisor of len(x)) as e4m3fn codes with one factor max|x|/448 per
// group: DeepSeek-V3's activations, group 128. A group of zeros has factor 0.
func QuantizeFP8Groups(codes []byte, scales, x []float32, group int) error {
	if group <= 0 || len(x)%group != 0 || len(codes) != len(x) || len(scales) != len(x)/group {
		return fmt.Errorf("quant: fp8: %d values in groups of %d: got room for %d codes and %d factors", len(x), group, len(codes), len(scales))
	}
	for g := range scales {
		v := x[g*group : (g+1)*group]
		s := abs(farthest(v)) / 448
		scales[g] = s
		for i, f := range v {
			if s == 0 {
				codes[g*group+i] = 0
				continue
			}
			codes[g*group+i] = F32ToE4M3(f / s)
		}
	}
	return nil
}

// DequantizeFP8Groups expands what QuantizeFP8Groups made.
func DequantizeFP8Groups(dst []float32, codes []byte, scales []float32, group int) error {
	if group <= 0 || len(dst) != len(codes) || len(codes)%group != 0 || len(scales) != len(codes)/group {
		return fmt.Errorf("quant: fp8: %d codes in groups of %d: got %d factors and room for %d values", len(codes), group, len(scales), len(dst))
	}
	for i, c := range codes {
		dst[i] = e4m3Table[c] * scales[i/group]
	}
	return nil
}
