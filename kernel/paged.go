package kernel

import "danlu/dtype"

// PagedAttention is attention over a cache in pages. A page holds, for each KV head, the keys of its tokens in panels of
// 16 tokens (16 values for each of the KeyDim indices), and the values in panels of 16 of their elements (16 values for
// each token), so that both products run as those of packed weights. Sums over a query's keys and values are formed in
// the order of the tokens, whatever other queries are in work, so a query's bytes depend on its own tokens only.
type PagedAttention struct {
	Store                              dtype.DType // F32, F16, BF16 or Q8_0
	PageLen, KVHeads, KeyDim, ValueDim int
	Softcap                            float32
}

// PagedRow is one query: it sees tokens First to Last of its sequence, and with a Slope (ALiBi) stands at At.
type PagedRow struct {
	First, Last, At int
	Slope           float32
}

// Fits reports whether the sizes fill whole panels.
func (a *PagedAttention) Fits() bool {
	whole := panelRows
	if a.bytePages() {
		if whole = blockVals; a.KeyDim%blockVals != 0 {
			return false
		}
	} else if a.Store != dtype.F32 && a.Store != dtype.F16 && a.Store != dtype.BF16 {
		return false
	}
	return a.PageLen%panelRows == 0 && a.ValueDim%whole == 0 && a.ValueDim > 0
}

// PageBytes is the memory of a page.
func (a *PagedAttention) PageBytes() int {
	return a.Store.Bytes(a.KVHeads * a.PageLen * (a.KeyDim + a.ValueDim))
}

// keys and values are the panels of a head in a page.
func (a *PagedAttention) keys(mem []byte, page, head int) []byte {
	size := a.Store.Bytes(a.PageLen * a.KeyDim)
	return mem[page*a.PageBytes()+head*size:][:size]
}

func (a *PagedAttention) values(mem []byte, page, head int) []byte {
	size := a.Store.Bytes(a.PageLen * a.ValueDim)
	return mem[page*a.PageBytes()+a.Store.Bytes(a.KVHeads*a.PageLen*a.KeyDim)+head*size:][:size]
}

// Write puts a token's keys [KVHeads, KeyDim] and values [KVHeads, ValueDim] into a slot, page·PageLen + place.
func (a *PagedAttention) Write(mem []byte, slot int, k, v []float32) {
	page, place := slot/a.PageLen, slot%a.PageLen
	for h := range a.KVHeads {
		if a.bytePages() {
			a.writeBytes(mem, page, place, h, k[h*a.KeyDim:(h+1)*a.KeyDim], v[h*a.ValueDim:(h+1)*a.ValueDim])
			continue
		}
		keys := a.keys(mem, page, h)
		at := place/panelRows*a.KeyDim*panelRows + place%panelRows
		a.scatter(keys, k[h*a.KeyDim:(h+1)*a.KeyDim], at)
		values := a.values(mem, page, h)
		for j := 0; j < a.ValueDim; j += panelRows {
			a.put(values, v[h*a.ValueDim+j:][:panelRows], (j*a.PageLen)+place*panelRows)
		}
	}
}

// scatter stores x at every 16th element.
func (a *PagedAttention) scatter(to []byte, x []float32, at int) {
	switch a.Store {
	case dtype.F32:
		to := floats(to)
		for i, v := range x {
			to[at+i*panelRows] = v
		}
	default:
		var half [blockLen]uint16
		for len(x) > 0 {
			n := min(len(x), blockLen)
			a.round(half[:n], x[:n])
			to := words16(to)
			for i, v := range half[:n] {
				to[at+i*panelRows] = v
			}
			x, at = x[n:], at+n*panelRows
		}
	}
}

// put stores 16 neighbouring elements.
func (a *PagedAttention) put(to []byte, x []float32, at int) {
	if a.Store == dtype.F32 {
		copy(floats(to)[at:], x)
		return
	}
	a.round(words16(to)[at:at+panelRows], x)
}

func (a *PagedAttention) round(dst []uint16, x []float32) {
	if a.Store == dtype.F16 {
		f32ToF16(dst, x)
	} else {
		f32ToBF16(dst, x)
	}
}

// ScratchPaged is the scratch, in float32 values, of Attend for rows queries over at most tokens tokens.
func (a *PagedAttention) ScratchPaged(rows, tokens int) int {
	return rows*ceilTo(tokens, a.PageLen) + panelRows*max(a.KeyDim, a.PageLen)
}

// Attend attends from queries q [len(rows), KeyDim], scaled already, to the KV head's tokens: out [len(rows), ValueDim].
// pages is the sequence's page table. A query that sees nothing gets zeros.
func (a *PagedAttention) Attend(mem []byte, pages []int32, head int, q []float32, rows []PagedRow, out, scratch []float32) {
	first, last := rows[0].First, rows[0].Last
	for _, r := range rows {
		first, last = min(first, r.First), max(last, r.Last)
	}
	base := first / a.PageLen * a.PageLen
	width := ceilTo(last+1-base, a.PageLen)
	scores, temp := scratch[:len(rows)*width], scratch[len(rows)*width:]
	for at := base; at <= last; at += a.PageLen {
		a.score(a.keys(mem, int(pages[at/a.PageLen]), head), scores[at-base:], width, q, len(rows), min(a.PageLen, last+1-at), temp)
	}
	for i, r := range rows {
		a.weigh(scores[i*width:(i+1)*width], r, base)
	}
	clear(out[:len(rows)*a.ValueDim])
	for at := base; at <= last; at += a.PageLen {
		a.sum(a.values(mem, int(pages[at/a.PageLen]), head), out, scores[at-base:], width, len(rows), min(a.PageLen, last+1-at), temp)
	}
}

// score multiplies queries with the first keys of a page.
func (a *PagedAttention) score(keys []byte, scores []float32, width int, q []float32, rows, tokens int, temp []float32) {
	panel := a.Store.Bytes(panelRows * a.KeyDim)
	for at := 0; at < tokens; at += panelRows {
		// Panels of a page that hold no token yet may be multiplied too: what comes of it is not looked at.
		if at+panelRows < tokens && at+fourPanels*panelRows <= a.PageLen &&
			wideFour(a.Store, scores[at:], width, q, a.KeyDim, keys[at/panelRows*panel:], panel, rows, a.KeyDim, noBias[:]) {
			at += (fourPanels - 1) * panelRows
			continue
		}
		d, k := a.keyPanel(keys, at, temp)
		wideRows(d, scores[at:], width, q, a.KeyDim, k, rows, a.KeyDim, noBias[:panelRows], temp)
	}
}

// sum adds the first values of a page, weighed, to out.
func (a *PagedAttention) sum(values []byte, out, scores []float32, width, rows, tokens int, temp []float32) {
	panel := a.Store.Bytes(panelRows * a.PageLen)
	for j := 0; j < a.ValueDim; j += panelRows {
		if j+fourPanels*panelRows <= a.ValueDim &&
			wideFour(a.Store, out[j:], a.ValueDim, scores, width, values[j/panelRows*panel:], panel, rows, tokens, nil) {
			j += (fourPanels - 1) * panelRows
			continue
		}
		d, v := a.valuePanel(values, j, tokens, temp)
		wideRows(d, out[j:], a.ValueDim, scores, width, v, rows, tokens, nil, temp)
	}
}

// weigh turns a row of scores, from token base on, into the tokens' weights, zero where the query sees nothing.
func (a *PagedAttention) weigh(row []float32, r PagedRow, base int) {
	if r.Last < r.First {
		clear(row)
		return
	}
	clear(row[:r.First-base])
	clear(row[r.Last+1-base:])
	seen := row[r.First-base : r.Last+1-base]
	if a.Softcap != 0 {
		Softcap(seen, seen, a.Softcap)
	}
	if r.Slope != 0 {
		for i := range seen {
			seen[i] += r.Slope * float32(r.First+i-r.At)
		}
	}
	sum := expSubRow(seen, seen, maxOfRow(seen))
	scaleRow(seen, seen, 1/sum)
}
