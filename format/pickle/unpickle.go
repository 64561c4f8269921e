package pickle

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The values of a pickle are nil, bool, int64, float64, string, []byte, *list, tuple, *dict, global, *storage and *view.
type (
	list   struct{ items []any }
	tuple  []any
	dict   struct{ keys, values []any }
	global struct{ module, name string }
	mark   struct{}
)

func (g global) String() string { return g.module + "." + g.name }

// machine runs a pickle's program (Python's pickletools.py describes the operations). It calls nothing: what a pickle
// wants called must be one of the few names with which PyTorch builds tensors, and those are done here.
type machine struct {
	data  []byte
	at    int
	stack []any
	memo  map[int64]any
	// persistent resolves a persistent id, with which PyTorch names storages.
	persistent func(id any) (any, error)
	budget     int // items that may still be copied by constructors
}

// maxPickle bounds a pickle program; the largest checkpoints' have a few MB.
const maxPickle = 1 << 28

func newMachine(data []byte, persistent func(any) (any, error)) *machine {
	return &machine{data: data, memo: map[int64]any{}, persistent: persistent, budget: len(data)}
}

// run executes to the end of the program and returns its value.
func (m *machine) run() (any, error) {
	for {
		op, err := m.byte()
		if err != nil {
			return nil, err
		}
		if op == '.' {
			return m.pop()
		}
		if err := m.step(op); err != nil {
			return nil, err
		}
	}
}

func (m *machine) byte() (byte, error) {
	b, err := m.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (m *machine) take(n int) ([]byte, error) {
	if n < 0 || n > len(m.data)-m.at {
		return nil, fmt.Errorf("pickle: want %d bytes at %d, there are %d", n, m.at, len(m.data)-m.at)
	}
	b := m.data[m.at : m.at+n]
	m.at += n
	return b, nil
}

func (m *machine) line() (string, error) {
	for i := m.at; i < len(m.data); i++ {
		if m.data[i] == '\n' {
			s := string(m.data[m.at:i])
			m.at = i + 1
			return s, nil
		}
	}
	return "", fmt.Errorf("pickle: a line at %d does not end", m.at)
}

// sized takes what follows a little-endian length of n bytes.
func (m *machine) sized(n int) ([]byte, error) {
	size, err := m.uint(n)
	if err != nil {
		return nil, err
	}
	if size > uint64(len(m.data)) {
		return nil, fmt.Errorf("pickle: want %d bytes at %d, there are %d", size, m.at, len(m.data)-m.at)
	}
	return m.take(int(size))
}

func (m *machine) uint(n int) (uint64, error) {
	b, err := m.take(n)
	if err != nil {
		return 0, err
	}
	var full [8]byte
	copy(full[:], b)
	return binary.LittleEndian.Uint64(full[:]), nil
}

func (m *machine) push(v any) error { m.stack = append(m.stack, v); return nil }

func (m *machine) pop() (any, error) {
	if len(m.stack) == 0 {
		return nil, fmt.Errorf("pickle: takes a value of an empty stack at %d", m.at)
	}
	v := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	if _, ok := v.(mark); ok {
		return nil, fmt.Errorf("pickle: takes a mark as a value at %d", m.at)
	}
	return v, nil
}

// marked takes the values above the last mark.
func (m *machine) marked() ([]any, error) {
	for i := len(m.stack) - 1; i >= 0; i-- {
		if _, ok := m.stack[i].(mark); ok {
			items := append([]any(nil), m.stack[i+1:]...)
			m.stack = m.stack[:i]
			return items, nil
		}
	}
	return nil, fmt.Errorf("pickle: there is no mark at %d", m.at)
}

// fixed are the operations that push a constant.
var fixed = map[byte]func() any{
	'N': func() any { return nil }, 0x88: func() any { return true }, 0x89: func() any { return false },
	')': func() any { return tuple{} }, ']': func() any { return &list{} }, '}': func() any { return &dict{} }, '(': func() any { return mark{} },
}

func (m *machine) step(op byte) error {
	if make, ok := fixed[op]; ok {
		return m.push(make())
	}
	switch op {
	case 0x80: // PROTO
		v, err := m.byte()
		if err == nil && v > 5 {
			err = fmt.Errorf("pickle: protocol %d is not supported", v)
		}
		return err
	case 0x95: // FRAME
		_, err := m.take(8)
		return err
	case 'J', 'K', 'M', 0x8a, 'I', 'L', 'G', 'F':
		return m.number(op)
	case 'X', 0x8c, 0x8d, 'V', 'U', 'T', 'S', 'B', 'C', 0x8e:
		return m.text(op)
	case 'q', 'r', 'p', 0x94, 'h', 'j', 'g':
		return m.remember(op)
	case 't', 0x85, 0x86, 0x87, 'l', 'd':
		return m.collect(op)
	case 'a', 'e', 's', 'u':
		return m.fill(op)
	case 'c', 0x93:
		return m.name(op)
	case 'R', 0x81:
		return m.call()
	case 'b': // BUILD: attributes, which tensors do not need
		if _, err := m.pop(); err != nil {
			return err
		}
		return nil
	case 'Q', 'P':
		return m.persist(op)
	case '0': // POP
		_, err := m.pop()
		return err
	case '2': // DUP
		v, err := m.pop()
		if err != nil {
			return err
		}
		m.stack = append(m.stack, v, v)
		return nil
	case '1': // POP_MARK
		_, err := m.marked()
		return err
	}
	return fmt.Errorf("pickle: operation %#x at %d is not supported", op, m.at-1)
}

func (m *machine) number(op byte) error {
	sizes := map[byte]int{'J': 4, 'K': 1, 'M': 2}
	switch op {
	case 'J', 'K', 'M':
		v, err := m.uint(sizes[op])
		if err != nil {
			return err
		}
		if op == 'J' {
			return m.push(int64(int32(v)))
		}
		return m.push(int64(v))
	case 0x8a: // LONG1
		b, err := m.sized(1)
		if err != nil {
			return err
		}
		return m.push(long(b))
	case 'G':
		b, err := m.take(8)
		if err != nil {
			return err
		}
		return m.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	}
	s, err := m.line()
	if err != nil {
		return err
	}
	if op == 'F' {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return fmt.Errorf("pickle: number %.40q is not valid", s)
		}
		return m.push(f)
	}
	if op == 'I' && (s == "00" || s == "01") {
		return m.push(s == "01")
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(s, "L"), 10, 64)
	if err != nil {
		return fmt.Errorf("pickle: number %.40q is not valid", s)
	}
	return m.push(n)
}

// bigNumber stands for an integer beyond 64 bits, of which only the bytes matter (the magic number of old files).
type bigNumber string

// long reads a little-endian two's complement number.
func long(b []byte) any {
	if len(b) > 8 {
		return bigNumber(b)
	}
	if len(b) == 0 {
		return int64(0)
	}
	var full [8]byte
	if b[len(b)-1]&0x80 != 0 {
		full = [8]byte{255, 255, 255, 255, 255, 255, 255, 255}
	}
	copy(full[:], b)
	return int64(binary.LittleEndian.Uint64(full[:]))
}

func (m *machine) text(op byte) error {
	var b []byte
	var err error
	switch op {
	case 0x8c, 'U', 'C':
		b, err = m.sized(1)
	case 'X', 'T', 'B':
		b, err = m.sized(4)
	case 0x8d, 0x8e:
		b, err = m.sized(8)
	default:
		var s string
		if s, err = m.line(); op == 'S' {
			s = strings.Trim(s, `'"`)
		}
		b = []byte(s)
	}
	if err != nil {
		return err
	}
	if op == 'B' || op == 'C' || op == 0x8e {
		return m.push(b)
	}
	if !utf8.Valid(b) {
		return fmt.Errorf("pickle: text %.40q at %d is not valid UTF-8", b, m.at)
	}
	return m.push(string(b))
}

func (m *machine) remember(op byte) error {
	var key int64
	switch op {
	case 'q', 'h', 'r', 'j':
		size := 1
		if op == 'r' || op == 'j' {
			size = 4
		}
		v, err := m.uint(size)
		if err != nil {
			return err
		}
		key = int64(v)
	case 0x94: // MEMOIZE
		key = int64(len(m.memo))
	default:
		s, err := m.line()
		if err != nil {
			return err
		}
		if key, err = strconv.ParseInt(s, 10, 64); err != nil {
			return fmt.Errorf("pickle: memo %.40q is not a number", s)
		}
	}
	if op == 'h' || op == 'j' || op == 'g' {
		v, ok := m.memo[key]
		if !ok {
			return fmt.Errorf("pickle: memo %d is empty", key)
		}
		return m.push(v)
	}
	if len(m.stack) == 0 {
		return fmt.Errorf("pickle: remembers a value of an empty stack")
	}
	m.memo[key] = m.stack[len(m.stack)-1]
	return nil
}

func (m *machine) collect(op byte) error {
	if n := int(op) - 0x84; n >= 1 && n <= 3 { // TUPLE1 to TUPLE3
		t := make(tuple, n)
		for i := n - 1; i >= 0; i-- {
			v, err := m.pop()
			if err != nil {
				return err
			}
			t[i] = v
		}
		return m.push(t)
	}
	items, err := m.marked()
	if err != nil {
		return err
	}
	switch op {
	case 't':
		return m.push(tuple(items))
	case 'l':
		return m.push(&list{items})
	}
	d := &dict{}
	if err := d.set(items); err != nil {
		return err
	}
	return m.push(d)
}

func (d *dict) set(pairs []any) error {
	if len(pairs)%2 != 0 {
		return fmt.Errorf("pickle: a dictionary gets a key without a value")
	}
	for i := 0; i < len(pairs); i += 2 {
		d.keys, d.values = append(d.keys, pairs[i]), append(d.values, pairs[i+1])
	}
	return nil
}

// fill appends to the list or dictionary below.
func (m *machine) fill(op byte) error {
	var items []any
	var err error
	switch op {
	case 'e', 'u':
		items, err = m.marked()
	case 'a':
		items = make([]any, 1)
		items[0], err = m.pop()
	case 's':
		items = make([]any, 2)
		if items[1], err = m.pop(); err == nil {
			items[0], err = m.pop()
		}
	}
	if err != nil {
		return err
	}
	if len(m.stack) == 0 {
		return fmt.Errorf("pickle: fills a value of an empty stack")
	}
	switch v := m.stack[len(m.stack)-1].(type) {
	case *list:
		if op == 'a' || op == 'e' {
			v.items = append(v.items, items...)
			return nil
		}
	case *dict:
		if op == 's' || op == 'u' {
			return v.set(items)
		}
	}
	return fmt.Errorf("pickle: fills what is no list or dictionary at %d", m.at)
}

// name pushes a name of Python, if it is one of those that tensors are built with.
func (m *machine) name(op byte) error {
	var g global
	var err error
	if op == 'c' {
		if g.module, err = m.line(); err == nil {
			g.name, err = m.line()
		}
	} else {
		var name, module any
		if name, err = m.pop(); err == nil {
			module, err = m.pop()
		}
		g.name, _ = name.(string)
		g.module, _ = module.(string)
	}
	if err != nil {
		return err
	}
	if !known(g) {
		return fmt.Errorf("pickle: refers to %.100q: only tensors are read, and nothing is run", g.String())
	}
	return m.push(g)
}

func (m *machine) persist(op byte) error {
	var id any
	var err error
	if op == 'P' {
		id, err = m.line()
	} else {
		id, err = m.pop()
	}
	if err != nil {
		return err
	}
	if m.persistent == nil {
		return fmt.Errorf("pickle: names a storage where there is none")
	}
	v, err := m.persistent(id)
	if err != nil {
		return err
	}
	return m.push(v)
}

// call does what PyTorch's constructors would do.
func (m *machine) call() error {
	a, err := m.pop()
	if err != nil {
		return err
	}
	f, err := m.pop()
	if err != nil {
		return err
	}
	args, ok := a.(tuple)
	g, isName := f.(global)
	if !ok || !isName {
		return fmt.Errorf("pickle: calls what is not a name at %d", m.at)
	}
	v, err := m.build(g, args)
	if err != nil {
		return err
	}
	return m.push(v)
}
