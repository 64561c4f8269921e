package data

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// parquetReader reads parquet rows as JSON values, one row group at a time. Nested columns follow the record assembly
// of Dremel (Melnik et al. 2010, section 4.3) with the LIST and MAP layouts of the parquet format.
type parquetReader struct {
	file   *parquet.File
	groups []parquet.RowGroup
	group  int
	rows   parquet.Rows
	row    int64 // rows before the next one
	max    int
	buf    [1]parquet.Row
}

func newParquetReader(s *source, opt ReadOptions) (r recordReader, err error) {
	defer recoverParquet(&err)
	info, err := s.file.Stat()
	if err != nil {
		return nil, err
	}
	f, err := parquet.OpenFile(s.file, info.Size(), parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return nil, err
	}
	p := &parquetReader{file: f, groups: f.RowGroups(), row: s.offset, max: opt.MaxRowBytes}
	skip := s.offset
	for p.group < len(p.groups) && skip >= p.groups[p.group].NumRows() && skip > 0 {
		skip -= p.groups[p.group].NumRows()
		p.group++
	}
	if p.group < len(p.groups) {
		p.rows = parquet.NewRowGroupRowReader(p.groups[p.group])
		if skip > 0 {
			if err := p.rows.SeekToRow(skip); err != nil {
				return nil, fmt.Errorf("row %d: %w", s.offset, err)
			}
		}
	} else if skip > 0 {
		return nil, fmt.Errorf("position %d lies behind the last row: the file has changed", s.offset)
	}
	return p, nil
}

// recoverParquet turns a panic of the parquet library over a corrupt file into an error.
func recoverParquet(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("corrupt parquet file: %v", p)
	}
}

func (p *parquetReader) pos() (int64, int64) { return p.row, p.row }

func (p *parquetReader) close() error {
	if p.rows != nil {
		return p.rows.Close()
	}
	return nil
}

func (p *parquetReader) next() (fields []Field, line int64, err error) {
	defer recoverParquet(&err)
	for {
		if p.rows == nil {
			return nil, p.row, io.EOF
		}
		n, err := p.rows.ReadRows(p.buf[:])
		if n == 0 && (err == io.EOF || err == nil) {
			if err := p.rows.Close(); err != nil {
				return nil, p.row, err
			}
			p.rows = nil
			if p.group++; p.group < len(p.groups) {
				p.rows = parquet.NewRowGroupRowReader(p.groups[p.group])
			}
			continue
		}
		if n == 0 {
			return nil, p.row + 1, err
		}
		p.row++
		fields, err := p.fields(p.buf[0])
		if err != nil {
			return nil, p.row, &RowError{Line: p.row, Err: err}
		}
		return fields, p.row, nil
	}
}

func (p *parquetReader) fields(row parquet.Row) ([]Field, error) {
	var columns [][]parquet.Value
	size := 0
	row.Range(func(_ int, values []parquet.Value) bool {
		columns = append(columns, values)
		for _, v := range values {
			if k := v.Kind(); k == parquet.ByteArray || k == parquet.FixedLenByteArray {
				size += len(v.ByteArray())
			}
		}
		return true
	})
	if size > p.max {
		return nil, errRowTooLong
	}
	var fields []Field
	next := 0
	for _, f := range p.file.Schema().Fields() {
		n := leaves(f)
		if next+n > len(columns) {
			return nil, fmt.Errorf("column %s: missing values", f.Name())
		}
		raw, err := assemble(nil, f, columns[next:next+n], 0, 0)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name(), err)
		}
		next += n
		fields = append(fields, Field{Name: f.Name(), Raw: raw})
	}
	return fields, nil
}

func leaves(n parquet.Node) int {
	if n.Leaf() {
		return 1
	}
	sum := 0
	for _, f := range n.Fields() {
		sum += leaves(f)
	}
	return sum
}

// assemble appends the JSON of one instance of a node. columns holds the node's leaf values of this instance; rep and
// def are the repetition and definition levels of its parent.
func assemble(out []byte, n parquet.Node, columns [][]parquet.Value, rep, def int) ([]byte, error) {
	for _, c := range columns {
		if len(c) == 0 {
			return nil, errors.New("a leaf without values")
		}
	}
	if n.Optional() {
		def++
		if columns[0][0].DefinitionLevel() < def {
			return append(out, "null"...), nil
		}
	}
	if n.Repeated() {
		return assembleRepeated(out, columns, rep, def, func(out []byte, c [][]parquet.Value, rep, def int) ([]byte, error) {
			return assembleBody(out, n, c, rep, def)
		})
	}
	return assembleBody(out, n, columns, rep, def)
}

func assembleRepeated(out []byte, columns [][]parquet.Value, rep, def int, body func([]byte, [][]parquet.Value, int, int) ([]byte, error)) ([]byte, error) {
	rep, def = rep+1, def+1
	if columns[0][0].DefinitionLevel() < def {
		return append(out, "[]"...), nil
	}
	out = append(out, '[')
	at := make([]int, len(columns))
	part := make([][]parquet.Value, len(columns))
	for first := true; at[0] < len(columns[0]); first = false {
		for i, c := range columns {
			end := at[i] + 1
			for end < len(c) && c[end].RepetitionLevel() > rep {
				end++
			}
			if at[i] >= len(c) {
				return nil, errors.New("repeated columns of different lengths")
			}
			part[i] = c[at[i]:end]
			at[i] = end
		}
		if !first {
			out = append(out, ',')
		}
		var err error
		if out, err = body(out, part, rep, def); err != nil {
			return nil, err
		}
	}
	return append(out, ']'), nil
}

func assembleBody(out []byte, n parquet.Node, columns [][]parquet.Value, rep, def int) ([]byte, error) {
	if n.Leaf() {
		return appendLeaf(out, n, columns[0][0])
	}
	fields := n.Fields()
	if len(fields) == 1 && fields[0].Repeated() && isListName(fields[0].Name()) {
		// LIST: the repeated group is a wrapper when it has exactly one field, else it is the element (parquet format,
		// LogicalTypes.md, backward compatibility rules).
		return assembleRepeated(out, columns, rep, def, func(out []byte, c [][]parquet.Value, rep, def int) ([]byte, error) {
			if inner := fields[0]; !inner.Leaf() && len(inner.Fields()) == 1 {
				return assemble(out, inner.Fields()[0], c, rep, def)
			}
			return assembleBody(out, fields[0], c, rep, def)
		})
	}
	out = append(out, '{')
	next := 0
	for i, f := range fields {
		if i > 0 {
			out = append(out, ',')
		}
		k := leaves(f)
		out = append(out, quoteJSON(f.Name())...)
		out = append(out, ':')
		var err error
		if out, err = assemble(out, f, columns[next:next+k], rep, def); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		next += k
	}
	return append(out, '}'), nil
}

func isListName(s string) bool {
	return s == "list" || s == "bag" || s == "array" || s == "element" || s == "item"
}

func appendLeaf(out []byte, n parquet.Node, v parquet.Value) ([]byte, error) {
	if v.IsNull() {
		return append(out, "null"...), nil
	}
	switch v.Kind() {
	case parquet.Boolean:
		return strconv.AppendBool(out, v.Boolean()), nil
	case parquet.Int32:
		return strconv.AppendInt(out, int64(v.Int32()), 10), nil
	case parquet.Int64:
		return strconv.AppendInt(out, v.Int64(), 10), nil
	case parquet.Float, parquet.Double:
		f := v.Double()
		if v.Kind() == parquet.Float {
			f = float64(v.Float())
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return append(out, "null"...), nil
		}
		b, err := json.Marshal(f)
		return append(out, b...), err
	case parquet.ByteArray, parquet.FixedLenByteArray:
		b := v.ByteArray()
		if utf8.Valid(b) {
			return append(out, quoteJSON(string(b))...), nil
		}
		if t := n.Type().LogicalType(); t != nil && (t.String() == "STRING" || t.String() == "JSON") {
			return nil, errInvalidUTF8
		}
		// Raw bytes (an image column) travel as a data URI, which image loaders read.
		return append(out, quoteJSON("data:application/octet-stream;base64,"+base64.StdEncoding.EncodeToString(b))...), nil
	}
	return nil, fmt.Errorf("unsupported parquet type %v", v.Kind())
}
