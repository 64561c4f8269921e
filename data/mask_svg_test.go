package data

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestMaskSVG(t *testing.T) {
	packed := PackRow([]Sequence{{IDs: []int32{1, 2, 3}}, {IDs: []int32{4, 5}}}, 8, 0)
	store := textStore(t, 5)
	l, err := NewLoader(&Set{Store: store}, LoaderOptions{CutoffLen: 64, BatchSize: 2, Infill: &Infiller{Tokens: GLMTokens{Mask: 300, GMask: 301, SOP: 303, EOP: 304, EOS: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	step, err := l.Next()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Batch{packed, step.Batches[0]} {
		svg, err := b.MaskSVG(0, 0, func(id int32) string { return fmt.Sprintf("<%d>\x1b\n", id) })
		if err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v in\n%s", err, svg)
			}
		}
		if want := "p" + fmt.Sprint(b.P); !strings.Contains(svg, ">"+want+"<") {
			t.Errorf("no position row %s", want)
		}
	}
	for q := range 8 {
		for k := range 8 {
			want := q < 3 && k <= q || q >= 3 && q < 5 && k >= 3 && k <= q
			if packed.Allowed(0, q, k) != want {
				t.Errorf("from %d to %d: want %v", q, k, want)
			}
		}
	}
	if _, err := packed.MaskSVG(1, 0, nil); err == nil {
		t.Error("a row that is not there was drawn")
	}
}
