package data

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"danlu/family"
	"danlu/format/safetensors"
	"danlu/internal/numtest"
)

// A batch made of a picture file holds the pixel values and the positions of the reference data.
func TestGoldenPictureBatches(t *testing.T) {
	images, err := filepath.Glob(filepath.Join(numtest.Goldens(t, "models"), "*", "image.png"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range images {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			m, _, err := family.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			viewer := m.(family.Viewer)
			processor, err := viewer.Processor(dir)
			if err != nil {
				t.Fatal(err)
			}
			golden, err := safetensors.Open(filepath.Join(dir, "golden.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer golden.Close()
			want := goldenInts(t, golden, "input_ids")
			once := slices.CompactFunc(slices.Clone(want), func(a, b int32) bool { return a == b && family.IsPicture(viewer, a) })
			p := &Pictures{Viewer: viewer, Processor: processor, Picture: Bounds{Min: 1024, Max: 589824}}
			pairs, err := p.expand(&Example{Images: []string{path}}, []Pair{{Source: once}})
			if err != nil {
				t.Fatal(err)
			}
			ids := pairs[0].Source
			if len(want) != len(once) && !slices.Equal(ids, want) {
				t.Errorf("laid out as %v, want %v", ids, want)
			}
			s := &Sample{Sequences: []Sequence{{IDs: ids}}, Images: []string{path}}
			plain := &Sample{Sequences: []Sequence{{IDs: []int32{5, 6, 7}}}}
			x := newBatch(2, len(ids)+2, 1, 0)
			x.put(0, 0, 0, plain.Sequences[0])
			x.put(1, 0, 0, s.Sequences[0])
			if err := p.fill(x, []*Sample{plain, s}); err != nil {
				t.Fatal(err)
			}
			pixels, err := golden.Tensor("pixel_values")
			if err != nil {
				t.Fatal(err)
			}
			holdPixels(t, viewer, x, pixels.F32())
			if _, err := golden.Tensor("position_ids"); err == nil {
				holdPositions(t, x, goldenInts(t, golden, "position_ids"), len(ids))
			}
		})
	}
	numtest.Count(t, "models (picture batches)", len(images))
}

func goldenInts(t *testing.T, f *safetensors.File, name string) (out []int32) {
	t.Helper()
	x, err := f.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range x.I64() {
		out = append(out, int32(v))
	}
	return out
}

// holdPixels holds the tower's patches against reference pixel values, laid out as the tower takes them.
func holdPixels(t *testing.T, viewer family.Viewer, x *Batch, pixels []float32) {
	t.Helper()
	values, merged := viewer.PatchShape()
	got := x.Extra["patches"].F32()
	if n := x.Extra["image_rows"].Len() * values * merged; len(got) != n || len(pixels) != n {
		t.Fatalf("%d pixel values, the reference %d, want %d", len(got), len(pixels), n)
	}
	sorted := func(v []float32) []float32 { v = slices.Clone(v); slices.Sort(v); return v } // families lay patches out differently
	a, b, worst := sorted(got), sorted(pixels), 0.0
	for i := range a {
		worst = max(worst, math.Abs(float64(a[i]-b[i])))
	}
	if !(worst <= 1e-6) {
		t.Errorf("pixel values differ by %g", worst)
	}
	for i, row := range x.Extra["image_rows"].I32() {
		if at := int(row) - x.T; at < 0 || at >= x.T {
			t.Fatalf("feature %d stands in another row", i)
		}
	}
}

// holdPositions holds the positions of row 1 of a batch against [P, 1, n].
func holdPositions(t *testing.T, x *Batch, want []int32, n int) {
	t.Helper()
	for k := range x.P {
		if got := x.Positions[(k*x.B+1)*x.T:][:n]; !slices.Equal(got, want[k*n:(k+1)*n]) {
			t.Errorf("position row %d is %v, want %v", k, got, want[k*n:(k+1)*n])
		}
	}
}

func TestBounds(t *testing.T) {
	b := Bounds{Min: 1024, Max: 589824}
	for _, c := range [][4]int{{100, 80, 100, 80}, {2000, 1000, 1086, 543}, {10, 10, 32, 32}, {1, 1 << 20, 1, 786432}} {
		if w, h := b.fit(c[0], c[1]); w != c[2] || h != c[3] {
			t.Errorf("%d x %d becomes %d x %d, want %d x %d", c[0], c[1], w, h, c[2], c[3])
		}
	}
}

// A picture that cutoff_len cuts, a lost file, and a text without a place are errors of the example.
func TestPictureErrors(t *testing.T) {
	dir := numtest.Goldens(t, "models")
	images, _ := filepath.Glob(filepath.Join(dir, "*", "image.png"))
	if len(images) == 0 {
		t.Fatal("no case with a picture")
	}
	m, _, err := family.Load(filepath.Dir(images[0]))
	if err != nil {
		t.Fatal(err)
	}
	viewer := m.(family.Viewer)
	processor, err := viewer.Processor(filepath.Dir(images[0]))
	if err != nil {
		t.Fatal(err)
	}
	p := &Pictures{Viewer: viewer, Processor: processor}
	picture, _ := viewer.Placeholders()
	pairs := []Pair{{Source: []int32{1, picture, 2}}}
	if _, err := p.expand(&Example{Images: []string{filepath.Join(dir, "none.png")}}, pairs); err == nil {
		t.Error("a missing file passes")
	}
	if _, err := p.expand(&Example{Images: []string{images[0]}}, []Pair{{Source: []int32{1, 2}}}); err == nil {
		t.Error("a picture without a place passes")
	}
	if pairs, err = p.expand(&Example{Images: []string{images[0]}}, pairs); err != nil {
		t.Fatal(err)
	}
	if err := p.whole(pairs, Sequence{IDs: pairs[0].Source[:3]}); err == nil {
		t.Error("half a picture passes")
	}
}
