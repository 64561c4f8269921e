package train

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// eventWriter appends scalars to a TensorBoard event file: TFRecord framing (length, masked CRC-32C, data, masked
// CRC-32C) around Event messages (tensorflow/core/util/event.proto).
type eventWriter struct {
	file *os.File
	buf  []byte
}

// newEventWriter creates a new event file in dir; TensorBoard merges the files of a folder.
func newEventWriter(dir string, now time.Time) (*eventWriter, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("train: tensorboard: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	name := fmt.Sprintf("events.out.tfevents.%d.%s.%d", now.Unix(), host, os.Getpid())
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("train: tensorboard: %w", err)
	}
	w := &eventWriter{file: f}
	version := protowire.AppendTag(w.event(now, 0), 3, protowire.BytesType)
	return w, w.record(protowire.AppendString(version, "brain.Event:2"))
}

// event starts an Event message: wall_time = 1, step = 2.
func (w *eventWriter) event(now time.Time, step int) []byte {
	b := protowire.AppendTag(w.buf[:0], 1, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, math.Float64bits(float64(now.UnixMicro())/1e6))
	b = protowire.AppendTag(b, 2, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(step))
}

// scalar writes one value: Event.summary = 5, Summary.value = 1, Value.tag = 1, Value.simple_value = 2.
func (w *eventWriter) scalar(now time.Time, step int, tag string, x float64) error {
	value := protowire.AppendTag(nil, 1, protowire.BytesType)
	value = protowire.AppendString(value, tag)
	value = protowire.AppendTag(value, 2, protowire.Fixed32Type)
	value = protowire.AppendFixed32(value, math.Float32bits(float32(x)))
	summary := protowire.AppendTag(nil, 1, protowire.BytesType)
	summary = protowire.AppendBytes(summary, value)
	b := protowire.AppendTag(w.event(now, step), 5, protowire.BytesType)
	w.buf = protowire.AppendBytes(b, summary)
	return w.record(w.buf)
}

func (w *eventWriter) record(data []byte) error {
	var head [12]byte
	binary.LittleEndian.PutUint64(head[:8], uint64(len(data)))
	binary.LittleEndian.PutUint32(head[8:], maskedCRC(head[:8]))
	record := append(head[:], data...)
	record = binary.LittleEndian.AppendUint32(record, maskedCRC(data))
	if _, err := w.file.Write(record); err != nil {
		return fmt.Errorf("train: tensorboard: %w", err)
	}
	return nil
}

func (w *eventWriter) close() error { return w.file.Close() }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func maskedCRC(data []byte) uint32 {
	c := crc32.Checksum(data, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8 // TFRecord's mask, so that checksums of checksums do not cancel
}
