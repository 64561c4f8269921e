package kernel

import "danlu/dtype"

// Caches in Q8_0 keep 32 neighbouring values of a key or value as signed bytes with one half-precision scale. A panel of
// keys has, for every 32 indices, the scales of its 16 tokens and then 16 bytes for each index; the values of a page
// have, for every 32 elements, the scales of all tokens and then 32 bytes for each token. Both are widened a panel at a
// time before they are multiplied.
const keyBlock = panelRows * (2 + blockVals)

// bytePages reports whether the cache keeps bytes.
func (a *PagedAttention) bytePages() bool { return a.Store == dtype.Q8_0 }

// writeBytes is Write.
func (a *PagedAttention) writeBytes(mem []byte, page, place, head int, k, v []float32) {
	keys, values := a.keys(mem, page, head), a.values(mem, page, head)
	panel := keys[place/panelRows*a.KeyDim/blockVals*keyBlock:]
	lane := place % panelRows
	for b := 0; b*blockVals < a.KeyDim; b++ {
		block := panel[b*keyBlock : (b+1)*keyBlock]
		inverse := scaleOf(&words16(block)[lane], k[b*blockVals:(b+1)*blockVals])
		for i, x := range k[b*blockVals : (b+1)*blockVals] {
			block[2*panelRows+i*panelRows+lane] = byte(int8(roundInt(x * inverse)))
		}
	}
	for b := 0; b*blockVals < a.ValueDim; b++ {
		scales, q := a.valueBlock(values, b)
		inverse := scaleOf(&scales[place], v[b*blockVals:(b+1)*blockVals])
		for i, x := range v[b*blockVals : (b+1)*blockVals] {
			q[place*blockVals+i] = byte(int8(roundInt(x * inverse)))
		}
	}
}

// scaleOf stores the scale of 32 values and returns what they are multiplied with.
func scaleOf(scale *uint16, x []float32) (inverse float32) {
	top := float32(0)
	for _, v := range x {
		top = max32(top, abs32(v))
	}
	*scale = RoundHalf(top / 127)
	if top == 0 {
		return 0
	}
	return 127 / top
}

// valueBlock is the scales and bytes of 32 elements of a page's values.
func (a *PagedAttention) valueBlock(values []byte, b int) (scales []uint16, q []byte) {
	size := a.PageLen * (2 + blockVals)
	block := values[b*size : (b+1)*size]
	return words16(block[:2*a.PageLen]), block[2*a.PageLen:]
}

// keyPanel is the panel of 16 tokens of a page from place on as numbers: as it lies in the cache, or widened in temp.
func (a *PagedAttention) keyPanel(keys []byte, place int, temp []float32) (dtype.DType, []byte) {
	if !a.bytePages() {
		return a.Store, keys[a.Store.Bytes(place*a.KeyDim):][:a.Store.Bytes(panelRows*a.KeyDim)]
	}
	blocks := a.KeyDim / blockVals
	for b := range blocks {
		widenKeys(temp[b*blockVals*panelRows:], keys[(place/panelRows*blocks+b)*keyBlock:][:keyBlock])
	}
	return dtype.F32, bytesOf32(temp[:a.KeyDim*panelRows])
}

// valuePanel is elements j to j+15 of the first tokens of a page.
func (a *PagedAttention) valuePanel(values []byte, j, tokens int, temp []float32) (dtype.DType, []byte) {
	if !a.bytePages() {
		return a.Store, values[a.Store.Bytes(j*a.PageLen):][:a.Store.Bytes(panelRows*tokens)]
	}
	scales, q := a.valueBlock(values, j/blockVals)
	widenValues(temp, scales[:tokens], q[j%blockVals:])
	return dtype.F32, bytesOf32(temp[:tokens*panelRows])
}

func widenKeysPortable(dst []float32, block []byte) {
	for i := range blockVals {
		for r := range panelRows {
			dst[i*panelRows+r] = float32(int8(block[2*panelRows+i*panelRows+r])) * HalfToF32(words16(block)[r])
		}
	}
}

func widenValuesPortable(dst []float32, scales []uint16, q []byte) {
	for t, s := range scales {
		for i := range panelRows {
			dst[t*panelRows+i] = float32(int8(q[t*blockVals+i])) * HalfToF32(s)
		}
	}
}
