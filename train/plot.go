package train

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// curve is a named series over steps.
type curve struct {
	name string
	x, y []float64
}

var curveColors = []color.Color{
	color.RGBA{0x1f, 0x77, 0xb4, 0xff}, color.RGBA{0xd6, 0x27, 0x28, 0xff}, color.RGBA{0x2c, 0xa0, 0x2c, 0xff},
	color.RGBA{0x94, 0x67, 0xbd, 0xff}, color.RGBA{0xff, 0x7f, 0x0e, 0xff},
}

// plotCurves draws curves over steps as NAME.png and NAME.svg in dir, each written beside and renamed.
func plotCurves(dir, name, title, ylabel string, curves []curve) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, "step", ylabel
	p.Add(plotter.NewGrid())
	for i, c := range curves {
		var xy plotter.XYs
		for k := range c.x {
			if !math.IsNaN(c.y[k]) && !math.IsInf(c.y[k], 0) {
				xy = append(xy, plotter.XY{X: c.x[k], Y: c.y[k]})
			}
		}
		if len(xy) == 0 {
			continue
		}
		line, err := plotter.NewLine(xy)
		if err != nil {
			return fmt.Errorf("train: plot %s: %w", name, err)
		}
		line.Color, line.Width = curveColors[i%len(curveColors)], vg.Points(1.2)
		p.Add(line)
		p.Legend.Add(c.name, line)
	}
	p.Legend.Top = true
	for _, ext := range []string{"png", "svg"} {
		path := filepath.Join(dir, name+"."+ext)
		// Save picks the format by the ending, so the temporary name keeps it.
		tmp := filepath.Join(dir, "."+name+".tmp."+ext)
		if err := p.Save(7*vg.Inch, 4*vg.Inch, tmp); err != nil {
			return fmt.Errorf("train: plot %s: %w", path, err)
		}
		if err := os.Rename(tmp, path); err != nil {
			return fmt.Errorf("train: plot %s: %w", path, err)
		}
	}
	return nil
}

// smoothed is the exponential moving average that TensorBoard draws, corrected for its start.
func smoothed(y []float64, weight float64) []float64 {
	out := make([]float64, len(y))
	mean, debias := 0.0, 0.0
	for i, v := range y {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			out[i] = v
			continue
		}
		mean = weight*mean + (1-weight)*v
		debias = weight*debias + (1 - weight)
		out[i] = mean / debias
	}
	return out
}
