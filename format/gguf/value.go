package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
)

// The codes of metadata types; sizes holds the bytes of those of fixed size.
const (
	codeString = 8
	codeArray  = 9
)

var sizes = map[uint32]uint64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// value reads one metadata value; an array becomes a slice of its element type.
func (r *reader) value(key string, code uint32) any {
	switch code {
	case codeString:
		return r.text()
	case codeArray:
		return r.array(key)
	}
	n, ok := sizes[code]
	if !ok {
		r.fail("%s: metadata type %d is not known", key, code)
		return nil
	}
	b := r.bytes(n)
	if b == nil {
		return nil
	}
	return scalar(code, b)
}

func scalar(code uint32, b []byte) any {
	le := binary.LittleEndian
	switch code {
	case 0:
		return b[0]
	case 1:
		return int8(b[0])
	case 2:
		return le.Uint16(b)
	case 3:
		return int16(le.Uint16(b))
	case 4:
		return le.Uint32(b)
	case 5:
		return int32(le.Uint32(b))
	case 6:
		return math.Float32frombits(le.Uint32(b))
	case 7:
		return b[0] != 0
	case 10:
		return le.Uint64(b)
	case 11:
		return int64(le.Uint64(b))
	}
	return math.Float64frombits(le.Uint64(b))
}

func (r *reader) array(key string) any {
	code, n := r.u32(), r.u64()
	size, fixed := sizes[code]
	if code == codeString {
		size = 8 // the length before each text
	} else if !fixed {
		r.fail("%s: arrays of metadata type %d are not supported", key, code)
		return nil
	}
	if r.err == nil && n > (uint64(len(r.data))-r.at)/size {
		r.fail("%s: an array of %d values does not fit the file", key, n)
	}
	if r.err != nil {
		return nil
	}
	if code == codeString {
		return r.texts(n)
	}
	b := r.bytes(n * size)
	switch code {
	case 0:
		return append([]uint8(nil), b...)
	case 1:
		return list[int8](b, n)
	case 2:
		return list[uint16](b, n)
	case 3:
		return list[int16](b, n)
	case 4:
		return list[uint32](b, n)
	case 5:
		return list[int32](b, n)
	case 6:
		return list[float32](b, n)
	case 7:
		return list[bool](b, n)
	case 10:
		return list[uint64](b, n)
	case 11:
		return list[int64](b, n)
	}
	return list[float64](b, n)
}

// texts reads n strings. They share one copy of the bytes: vocabularies have hundreds of thousands.
func (r *reader) texts(n uint64) []string {
	from, sizes := r.at, make([]int, n)
	for i := range sizes {
		if sizes[i] = len(r.bytes(r.u64())); r.err != nil {
			return nil
		}
	}
	all, v := string(r.data[from:r.at]), make([]string, n)
	at := 0
	for i, size := range sizes {
		at += 8 // its length
		v[i] = all[at : at+size]
		at += size
	}
	return v
}

func list[T any](b []byte, n uint64) []T {
	v := make([]T, n)
	binary.Decode(b, binary.LittleEndian, v) // fails for other sizes only
	return v
}

// Keys lists the metadata keys in the order of the file.
func (f *File) Keys() []string { return f.keys }

// Value is a metadata value as it is stored: a number, bool, string, or a slice of one of them.
func (f *File) Value(key string) (any, bool) {
	v, ok := f.values[key]
	return v, ok
}

func (f *File) bad(key, want string) error {
	v, ok := f.values[key]
	if !ok {
		return fmt.Errorf("gguf: %s: %s: is missing", filepath.Base(f.path), key)
	}
	return fmt.Errorf("gguf: %s: %s: want %s, got %T", filepath.Base(f.path), key, want, v)
}

// Text is a string value.
func (f *File) Text(key string) (string, error) {
	if s, ok := f.values[key].(string); ok {
		return s, nil
	}
	return "", f.bad(key, "a string")
}

// Int is an integer value of any width.
func (f *File) Int(key string) (int, error) {
	switch v := f.values[key].(type) {
	case uint8:
		return int(v), nil
	case int8:
		return int(v), nil
	case uint16:
		return int(v), nil
	case int16:
		return int(v), nil
	case uint32:
		return int(v), nil
	case int32:
		return int(v), nil
	case int64:
		return int(v), nil
	case uint64:
		if v <= math.MaxInt {
			return int(v), nil
		}
	}
	return 0, f.bad(key, "an integer")
}

// Float is a float32 or float64 value.
func (f *File) Float(key string) (float64, error) {
	switch v := f.values[key].(type) {
	case float32:
		return float64(v), nil
	case float64:
		return v, nil
	}
	return 0, f.bad(key, "a number")
}

// Bool is a boolean value.
func (f *File) Bool(key string) (bool, error) {
	if b, ok := f.values[key].(bool); ok {
		return b, nil
	}
	return false, f.bad(key, "a boolean")
}

// Texts is an array of strings.
func (f *File) Texts(key string) ([]string, error) {
	if s, ok := f.values[key].([]string); ok {
		return s, nil
	}
	return nil, f.bad(key, "an array of strings")
}

// Floats is an array of float32.
func (f *File) Floats(key string) ([]float32, error) {
	if s, ok := f.values[key].([]float32); ok {
		return s, nil
	}
	return nil, f.bad(key, "an array of float32")
}
