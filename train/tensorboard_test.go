package train

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// readScalars decodes an event file as TensorBoard would.
func readScalars(t *testing.T, path string) map[string][]float64 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]float64{}
	for len(data) > 0 {
		n := binary.LittleEndian.Uint64(data)
		if got, want := binary.LittleEndian.Uint32(data[8:]), maskedCRC(data[:8]); got != want {
			t.Fatalf("length checksum %x, want %x", got, want)
		}
		event := data[12 : 12+n]
		if got, want := binary.LittleEndian.Uint32(data[12+n:]), maskedCRC(event); got != want {
			t.Fatalf("checksum %x, want %x", got, want)
		}
		data = data[16+n:]
		if summary := field(t, event, 5); summary != nil {
			value := field(t, summary, 1)
			x := math.Float32frombits(binary.LittleEndian.Uint32(field(t, value, 2)))
			tag := string(field(t, value, 1))
			out[tag] = append(out[tag], float64(x))
		}
	}
	return out
}

// field returns the bytes of a protobuf field, nil when it is absent.
func field(t *testing.T, msg []byte, want protowire.Number) []byte {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			t.Fatal("broken message")
		}
		size := protowire.ConsumeFieldValue(num, typ, msg[n:])
		body := msg[n : n+size]
		if num == want {
			if typ == protowire.BytesType {
				body, _ = protowire.ConsumeBytes(body)
			}
			return body
		}
		msg = msg[n+size:]
	}
	return nil
}

func TestEventFile(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1700000000, 0)
	w, err := newEventWriter(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	for step, x := range []float64{3.5, 2.25} {
		if err := w.scalar(now, step, "train/loss", x); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	if len(files) != 1 {
		t.Fatalf("%d event files", len(files))
	}
	got := readScalars(t, files[0])["train/loss"]
	if len(got) != 2 || got[0] != 3.5 || got[1] != 2.25 {
		t.Errorf("read back %v", got)
	}
	// CRC-32C of the digits is e3069283; rotated right by 15 and shifted by the mask's constant.
	if got := maskedCRC([]byte("123456789")); got != 0xc78ab0e5 {
		t.Errorf("masked checksum %x", got)
	}
}

func TestPlotAndSmoothing(t *testing.T) {
	dir := t.TempDir()
	y := []float64{3, 2, math.NaN(), 1}
	s := smoothed(y, 0.6)
	if !(math.Abs(s[0]-3) < 1e-12) || !(s[1] < 3 && s[1] > 2) || !math.IsNaN(s[2]) || !(s[3] > 1 && s[3] < s[1]) {
		t.Errorf("smoothed %v", s)
	}
	if err := plotCurves(dir, "training_loss", "loss", "loss", []curve{{"loss", []float64{0, 1, 2, 3}, y}, {"none", nil, nil}}); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{"png", "svg"} {
		if st, err := os.Stat(filepath.Join(dir, "training_loss."+ext)); err != nil || st.Size() < 500 {
			t.Errorf("%s: %v", ext, err)
		}
	}
}
