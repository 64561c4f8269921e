package adapter

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"danlu/dtype"
	"danlu/engine"
	"danlu/format/safetensors"
	"danlu/kernel"
	"danlu/nn"
	"danlu/tensor"
)

// Start is where a PiSSA adapter began (arXiv:2404.02948): A and B of each weight hold its largest singular values, and
// the weight itself what is left. An adapter that began so is saved as a plain one of twice the rank, whose second half
// takes the start away again, so that it belongs to the model as it was published.
type Start map[string]*tensor.Tensor // by the factor's name

// InitPiSSA fills a new adapter's factors from the weights in the store, which must be float32, and leaves the rest of
// them there. Singular vectors are found by the given number of subspace iterations (Halko et al., arXiv:0909.4061,
// algorithm 4.4); below zero stands for so many that nothing changes any more.
func (s *Set) InitPiSSA(store engine.Store, iterations int, seed uint64) (Start, error) {
	if iterations < 0 {
		iterations = convergedIterations
	}
	if err := s.checkPiSSA(); err != nil {
		return nil, err
	}
	start := Start{}
	var mu sync.Mutex
	var group sync.WaitGroup
	var first error
	tokens := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range s.Targets {
		for k := range s.Targets[i].Ranks {
			group.Add(1)
			tokens <- struct{}{}
			go func() {
				defer func() { <-tokens; group.Done() }()
				factors, err := s.Targets[i].split(store, k, iterations, seed)
				mu.Lock()
				defer mu.Unlock()
				for name, x := range factors {
					start[name] = x
				}
				if err != nil && first == nil {
					first = err
				}
			}()
		}
	}
	group.Wait()
	return start, first
}

// convergedIterations is enough for neighbouring singular values that differ by a percent.
const convergedIterations = 256

// checkPiSSA refuses what has no such start.
func (s *Set) checkPiSSA() error {
	if len(s.Config.Saved) > 0 {
		return fmt.Errorf("adapter: pissa: does not go with modules that are trained as a whole: %v", s.Config.Saved)
	}
	for _, t := range s.Targets {
		if t.DoRA || t.Kind != nn.LinearModule && t.Kind != nn.ExpertModule || slices.Contains(t.Ranks, 0) || slices.Min(t.Ranks) != t.Rank {
			return fmt.Errorf("adapter: pissa: %s: want plain LoRA of linear layers with one rank", t.Weight.Label)
		}
		if t.Rank > min(t.In, t.Out) {
			return fmt.Errorf("adapter: pissa: %s: [%d %d] has no %d singular values", t.Weight.Label, t.Out, t.In, t.Rank)
		}
	}
	return nil
}

// split takes the largest singular values of part k out of its weight.
func (t *Target) split(store engine.Store, k, iterations int, seed uint64) (map[string]*tensor.Tensor, error) {
	name := t.Weight.PartName(k)
	w, err := store.Get(name)
	if err != nil {
		return nil, err
	}
	if w.DType != dtype.F32 {
		return nil, fmt.Errorf("adapter: pissa: %s: want float32, got %v", name, w)
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	u, v, values := largest(w.F32(), t.Out, t.In, t.Rank, iterations, rand.New(rand.NewPCG(seed, h.Sum64())))
	low, up := tensor.New(dtype.F32, t.Rank, t.In), tensor.New(dtype.F32, t.Out, t.Rank)
	for j := range t.Rank {
		root := float32(math.Sqrt(values[j] / t.Scales[k]))
		for i, x := range v[j*t.In : (j+1)*t.In] {
			low.F32()[j*t.In+i] = x * root
		}
		for i, x := range u[j*t.Out : (j+1)*t.Out] {
			up.F32()[i*t.Rank+j] = x * root
		}
	}
	if err := t.add(w.F32(), []*tensor.Tensor{low, up}, -t.Scales[k]); err != nil {
		return nil, err
	}
	factors := map[string]*tensor.Tensor{}
	for i, f := range t.factors(k) {
		factors[f.name] = []*tensor.Tensor{low, up}[i]
		if err := store.Set(f.name, factors[f.name]); err != nil {
			return nil, err
		}
	}
	return factors, store.Set(name, w)
}

// oversampling is how many more vectors are iterated than are wanted.
const oversampling = 8

// largest finds the r largest singular values of w [out, in] with their vectors: u [r, out] and v [r, in].
func largest(w []float32, out, in, r, iterations int, rng *rand.Rand) (u, v []float32, values []float64) {
	k := min(r+oversampling, min(out, in))
	scratch := make([]float32, max(kernel.ScratchMatMul(k, out, in, 1, false), kernel.ScratchMatMul(k, in, out, 1, false)))
	q, z := make([]float32, k*out), make([]float32, k*in)
	for i := range z {
		z[i] = float32(rng.NormFloat64())
	}
	left := func() { // q = z·Wᵀ
		g := kernel.MatMul{M: k, N: out, K: in}
		g.RunAlone(kernel.Matrix{F32: z, Row: in, Col: 1}, kernel.Matrix{F32: w, Row: 1, Col: in}, kernel.Matrix{F32: q, Row: out, Col: 1}, scratch)
		orthonormal(q, k, out)
	}
	right := func() { // z = q·W
		g := kernel.MatMul{M: k, N: in, K: out}
		g.RunAlone(kernel.Matrix{F32: q, Row: out, Col: 1}, kernel.Matrix{F32: w, Row: in, Col: 1}, kernel.Matrix{F32: z, Row: in, Col: 1}, scratch)
	}
	left()
	for range iterations {
		right()
		orthonormal(z, k, in)
		left()
	}
	right() // W is about qᵀ·z: the singular values of z [k, in] are those of W
	squares, vectors := eigen(gram(z, k, in), k)
	u, v = make([]float32, r*out), make([]float32, r*in)
	for j := range r {
		s := math.Sqrt(max(squares[j], 0))
		values = append(values, s)
		for i := range k {
			c := vectors[j*k+i]
			axpy(u[j*out:(j+1)*out], q[i*out:(i+1)*out], c)
			if s > 0 {
				axpy(v[j*in:(j+1)*in], z[i*in:(i+1)*in], c/s)
			}
		}
	}
	return u, v, values
}

func axpy(y, x []float32, a float64) {
	for i, v := range x {
		y[i] += float32(a * float64(v))
	}
}

func dot(x, y []float32) float64 {
	sum := 0.0
	for i, v := range x {
		sum += float64(v) * float64(y[i])
	}
	return sum
}

// orthonormal makes the k rows of x [k, n] orthonormal (Gram-Schmidt, twice); a row that depends on those before becomes
// zero.
func orthonormal(x []float32, k, n int) {
	for j := range k {
		row := x[j*n : (j+1)*n]
		before := norm(row)
		for range 2 {
			for i := range j {
				other := x[i*n : (i+1)*n]
				axpy(row, other, -dot(row, other))
			}
		}
		s := norm(row)
		if !(s > 1e-7*before) {
			clear(row)
			continue
		}
		for i, v := range row {
			row[i] = float32(float64(v) / s)
		}
	}
}

// gram is x·xᵀ [k, k].
func gram(x []float32, k, n int) []float64 {
	g := make([]float64, k*k)
	for i := range k {
		for j := range i + 1 {
			g[i*k+j] = dot(x[i*n:(i+1)*n], x[j*n:(j+1)*n])
			g[j*k+i] = g[i*k+j]
		}
	}
	return g
}

// eigen finds the eigenvalues of a symmetric matrix [k, k], largest first, and its eigenvectors as rows, by Jacobi's
// rotations (Golub & Van Loan, section 8.5). The matrix is overwritten.
func eigen(a []float64, k int) (values, vectors []float64) {
	v := make([]float64, k*k)
	for i := range k {
		v[i*k+i] = 1
	}
	for range 60 {
		off, all := 0.0, 0.0
		for i := range k {
			for j := range k {
				all += a[i*k+j] * a[i*k+j]
				if i != j {
					off += a[i*k+j] * a[i*k+j]
				}
			}
		}
		if !(off > 1e-26*all) {
			break
		}
		for p := range k {
			for q := p + 1; q < k; q++ {
				rotate(a, v, k, p, q)
			}
		}
	}
	order := make([]int, k)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		switch {
		case a[i*k+i] > a[j*k+j]:
			return -1
		case a[i*k+i] < a[j*k+j]:
			return 1
		}
		return 0
	})
	for _, i := range order {
		values = append(values, a[i*k+i])
		for r := range k {
			vectors = append(vectors, v[r*k+i])
		}
	}
	return values, vectors
}

// rotate makes element p, q of a symmetric matrix zero and turns the vectors, the columns of v, along.
func rotate(a, v []float64, k, p, q int) {
	if a[p*k+q] == 0 {
		return
	}
	theta := (a[q*k+q] - a[p*k+p]) / (2 * a[p*k+q])
	t := 1 / (math.Abs(theta) + math.Sqrt(theta*theta+1))
	if theta < 0 {
		t = -t
	}
	c := 1 / math.Sqrt(t*t+1)
	s := t * c
	for i := range k {
		x, y := a[i*k+p], a[i*k+q]
		a[i*k+p], a[i*k+q] = c*x-s*y, s*x+c*y
	}
	for i := range k {
		x, y := a[p*k+i], a[q*k+i]
		a[p*k+i], a[q*k+i] = c*x-s*y, s*x+c*y
		x, y = v[i*k+p], v[i*k+q]
		v[i*k+p], v[i*k+q] = c*x-s*y, s*x+c*y
	}
}

// doubled is the set of a plain adapter that holds a PiSSA adapter and its start.
func (s *Set) doubled() (*Set, error) {
	c := *s.Config
	c.Rank *= 2
	if c.Alpha *= 2; c.RSLora {
		c.Alpha = s.Config.Alpha * math.Sqrt2
	}
	return Resolve(&c, s.Model)
}

// SavePiSSA writes a PiSSA adapter as a plain one into dir: B·A of the sum less B·A of the start.
func (s *Set) SavePiSSA(dir string, store engine.Store, start Start) error {
	d, err := s.doubled()
	if err != nil {
		return err
	}
	if err := d.Config.Write(dir); err != nil {
		return err
	}
	var infos []safetensors.Info
	from := map[string]factor{}
	for _, f := range d.all() {
		infos = append(infos, safetensors.Info{Name: filePrefix + f.name, DType: dtype.F32, Shape: f.shape})
		from[filePrefix+f.name] = f
	}
	return safetensors.Write(filepath.Join(dir, WeightsFile), infos, map[string]string{"format": "pt"}, func(i safetensors.Info) (*tensor.Tensor, error) {
		f := from[i.Name]
		now, err := store.Get(f.name)
		if err != nil {
			return nil, err
		}
		sign := float32(1)
		if f.padded == 1 {
			sign = -1
		}
		return joined(now, start[f.name], f, sign), nil
	})
}

// joined puts two factors behind one another along the axis of the rank; the second is multiplied by sign.
func joined(a, b *tensor.Tensor, f factor, sign float32) *tensor.Tensor {
	out := tensor.New(dtype.F32, f.shape...)
	n, m := f.shape[0], f.shape[1]
	for i := range n {
		row := out.F32()[i*m : (i+1)*m]
		switch {
		case f.padded == 1:
			copy(row, a.F32()[i*m/2:(i+1)*m/2])
			for k, x := range b.F32()[i*m/2 : (i+1)*m/2] {
				row[m/2+k] = sign * x
			}
		case i < n/2:
			copy(row, a.F32()[i*m:])
		default:
			copy(row, b.F32()[(i-n/2)*m:])
		}
	}
	return out
}

// LoadPiSSA puts the factors of a file that SavePiSSA wrote back into the store.
func (s *Set) LoadPiSSA(dir string, store engine.Store) error {
	d, err := s.doubled()
	if err != nil {
		return err
	}
	f, err := d.OpenFile(filepath.Join(dir, WeightsFile))
	if err != nil {
		return err
	}
	defer f.Close()
	for _, x := range s.all() {
		whole, err := f.file.Tensor(filePrefix + x.name)
		if err != nil {
			return err
		}
		out := tensor.New(dtype.F32, x.shape...)
		err = f.file.Guard(func() error { x.pad(out, whole); return nil })
		if err == nil {
			err = store.Set(x.name, out)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
