package kernel

import (
	"encoding/binary"
	"fmt"

	"danlu/dtype"
	"danlu/quant"
)

// Coded weights are a matrix in NF4 as QLoRA keeps it (arXiv:2305.14314): 4-bit codes of 64 neighbouring values in
// row-major order, whatever the rows, that share an absmax. The absmax are float32, or 8-bit codes themselves (double
// quantization). In memory: the number of values, then
//
//	NF4        absmax float32 per block, codes
//	NF4Double  offset float32, scale float32 per 256 blocks, absmax codes per block (padded to 4), codes
const (
	codeBlock  = 64
	scaleBlock = 256 // absmax codes that share a scale
)

// IsCoded reports whether matrices of type d are kept as codes.
func IsCoded(d dtype.DType) bool { return d.IgnoresRows() }

// codeParts are the sections of a coded matrix of n values.
type codeParts struct {
	offset, scales, absmax, codes, end int
}

func partsOf(d dtype.DType, n int) codeParts {
	blocks := (n + codeBlock - 1) / codeBlock
	p := codeParts{offset: 8}
	if d == dtype.NF4 {
		p.absmax, p.codes = 8, 8+4*blocks
	} else {
		p.scales = 12
		p.absmax = p.scales + 4*((blocks+scaleBlock-1)/scaleBlock)
		p.codes = p.absmax + ceilTo(blocks, 4)
	}
	p.end = p.codes + ceilTo((n+1)/2, 8)
	return p
}

// CodedBytes is the size of a coded matrix of n values.
func CodedBytes(d dtype.DType, n int) int { return partsOf(d, n).end }

// Encode codes the values of a matrix into dst, which has CodedBytes bytes.
func Encode(d dtype.DType, dst []byte, values []float32) error {
	n := len(values)
	p := partsOf(d, n)
	if len(dst) != p.end {
		return fmt.Errorf("kernel: encode: %v: want %d bytes for %d values, got %d", d, p.end, n, len(dst))
	}
	binary.LittleEndian.PutUint64(dst, uint64(n))
	absmax := make([]float32, (n+codeBlock-1)/codeBlock)
	if err := quant.NF4.Quantize(dst[p.codes:p.codes+(n+1)/2], absmax, values, codeBlock); err != nil {
		return err
	}
	if d == dtype.NF4 {
		copy(floats(dst[p.absmax:p.codes]), absmax)
		return nil
	}
	q := quant.QuantizeAbsmax(absmax)
	floats(dst[p.offset : p.offset+4])[0] = q.Offset
	copy(floats(dst[p.scales:p.absmax]), q.Scale)
	copy(dst[p.absmax:p.codes], q.Codes)
	return nil
}

// nf4Pairs are the two values of each byte of codes.
var nf4Pairs = func() (t [256][2]float32) {
	v := quant.NF4.Values()
	for b := range t {
		t[b] = [2]float32{v[b>>4], v[b&15]}
	}
	return t
}()

var absmaxLevels = quant.Dynamic8.Values()

// Decode writes the values from, from+1, ... of a coded matrix to dst.
func Decode(d dtype.DType, dst []float32, src []byte, from int) {
	p := partsOf(d, int(binary.LittleEndian.Uint64(src)))
	codes := src[p.codes:p.end]
	for len(dst) > 0 {
		block := from / codeBlock
		n := min(len(dst), (block+1)*codeBlock-from)
		decodeBlock(dst[:n], codes, from, p.absmaxOf(d, src, block))
		dst, from = dst[n:], from+n
	}
}

// absmaxOf is a block's absmax.
func (p *codeParts) absmaxOf(d dtype.DType, src []byte, block int) float32 {
	if d == dtype.NF4 {
		return floats(src[p.absmax:p.codes])[block]
	}
	scale := floats(src[p.scales:p.absmax])[block/scaleBlock]
	return absmaxLevels[src[p.absmax+block]]*scale + floats(src[p.offset : p.offset+4])[0]
}

// decodeBlock expands values from on, all of one block.
func decodeBlock(dst []float32, codes []byte, from int, absmax float32) {
	if from&1 == 1 {
		dst[0] = nf4Pairs[codes[from/2]][1] * absmax
		dst, from = dst[1:], from+1
	}
	i := 0
	for ; i+1 < len(dst); i += 2 {
		v := &nf4Pairs[codes[(from+i)/2]]
		dst[i], dst[i+1] = v[0]*absmax, v[1]*absmax
	}
	if i < len(dst) {
		dst[i] = nf4Pairs[codes[(from+i)/2]][0] * absmax
	}
}

// Codes are the sections of a coded matrix, for those who hold them against other implementations.
func Codes(d dtype.DType, src []byte) (codes []byte, absmax []float32, nested quant.Absmax) {
	n := int(binary.LittleEndian.Uint64(src))
	p := partsOf(d, n)
	codes = src[p.codes : p.codes+(n+1)/2]
	if d == dtype.NF4 {
		return codes, floats(src[p.absmax:p.codes]), nested
	}
	nested.Offset = floats(src[p.offset : p.offset+4])[0]
	nested.Scale = floats(src[p.scales:p.absmax])
	nested.Codes = src[p.absmax : p.absmax+(n+codeBlock-1)/codeBlock]
	return codes, nil, nested
}
