package data

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
)

// readAll returns "line:field=value,..." for each record and "line!error" for each malformed one, resuming at every
// position from a fresh reader to show that Pos and Seek agree with reading on.
func readAll(t *testing.T, opt ReadOptions, paths ...string) []string {
	t.Helper()
	files, err := Open(paths, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	var out []string
	var places []Pos
	for {
		places = append(places, files.Pos())
		row, err := files.Next()
		if err == io.EOF {
			break
		}
		out = append(out, show(t, row, err))
	}
	for i, p := range places {
		again, err := Open(paths, opt)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Seek(p); err != nil {
			t.Fatal(err)
		}
		row, err := again.Next()
		if i == len(out) {
			if err != io.EOF {
				t.Errorf("seek to the end %+v: want io.EOF, got %v", p, err)
			}
		} else if got := show(t, row, err); got != out[i] {
			t.Errorf("seek to %+v: want %s, got %s", p, out[i], got)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	return out
}

func show(t *testing.T, row Row, err error) string {
	t.Helper()
	var bad *RowError
	if errors.As(err, &bad) {
		return fmt.Sprintf("%d!%v", bad.Line, bad.Err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, f := range row.Fields {
		value := f.Text
		if f.Raw != nil {
			value = string(f.Raw)
		}
		parts = append(parts, f.Name+"="+value)
	}
	return fmt.Sprintf("%d:%s", row.Line, strings.Join(parts, ","))
}

func compress(t testing.TB, text, ext string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch ext {
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".zst":
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReaders(t *testing.T) {
	for _, c := range []struct {
		name, file, text string
		opt              ReadOptions
		want             []string
	}{
		{"lines", "a.txt", "\xef\xbb\xbfone\r\n\n  \ntwo two\nlast", ReadOptions{}, []string{"1:text=one", "4:text=two two", "5:text=last"}},
		{"invalid text", "a.txt", "good\nb\xffd\nmore\n", ReadOptions{}, []string{"1:text=good", "2!invalid UTF-8", "3:text=more"}},
		{"paragraphs", "a.txt", "a\nb\n\n\nc  \n\n", ReadOptions{TextUnit: "paragraph"}, []string{"1:text=a\nb", "5:text=c"}},
		{"bad paragraph", "a.txt", "a\n\xff\nb\n\nc", ReadOptions{TextUnit: "paragraph"}, []string{"1!invalid UTF-8", "5:text=c"}},
		{"document", "a.txt", "\n\na\n\nb\n", ReadOptions{TextUnit: "document"}, []string{"3:text=a\n\nb"}},
		{"long line", "a.txt", "abcdefghij\nk\n", ReadOptions{MaxRowBytes: 5}, []string{"1!record is longer than the limit", "2:text=k"}},
		{"jsonl", "a.jsonl", "{\"a\": 1, \"b\": \"x\"}\r\n\n{\"a\":{\"c\":[1,\"}\"]}}\n", ReadOptions{}, []string{`1:a=1,b="x"`, `3:a={"c":[1,"}"]}`}},
		{"bad jsonl", "a.jsonl", "{\"a\": 1\n[1]\n{\"a\": \"\xff\"}\n{\"a\": 2}", ReadOptions{},
			[]string{"1!unexpected end of JSON input", "2!want a JSON object, got array", "3!invalid UTF-8", "4:a=2"}},
		{"array", "a.json", "\xef\xbb\xbf [\n {\"a\": \"x]\\\"\"},\n {\"a\": [1, {\"b\": 2}]}\n]\n", ReadOptions{}, []string{`2:a="x]\""`, `3:a=[1, {"b": 2}]`}},
		{"array of one line", "a.json", "[{\"a\":1},{\"a\":2}, 7, {\"a\" 3}]", ReadOptions{}, []string{"1:a=1", "1:a=2", "1!want a JSON object, got number", "1!invalid character '3' after object key"}},
		{"empty array", "a.json", " [ ] ", ReadOptions{}, nil},
		{"lines named json", "a.json", "{\"a\":1}\n{\"a\":2}\n", ReadOptions{}, []string{"1:a=1", "2:a=2"}},
		{"csv", "a.csv", "\xef\xbb\xbfq,a\n\"x, \"\"y\"\"\n z\",b\n\nc,d\ne\n", ReadOptions{}, []string{"2:q=x, \"y\"\n z,a=b", "5:q=c,a=d", "6!want 2 columns (q, a), got 1"}},
		{"tsv", "a.tsv", "q\ta\nx \"y\"\tb,c\n", ReadOptions{}, []string{"2:q=x \"y\",a=b,c"}},
		{"bad csv", "a.csv", "q,a\nx\"y,1\nb,2\n", ReadOptions{}, []string{"2!bare \" in non-quoted-field", "3:q=b,a=2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if got := readAll(t, c.opt, writeFile(t, dir, c.file, c.text)); !reflect.DeepEqual(got, c.want) {
				t.Errorf("want %q, got %q", c.want, got)
			}
			for _, ext := range []string{".gz", ".zst"} {
				if got := readAll(t, c.opt, writeFile(t, dir, c.file+ext, compress(t, c.text, ext))); !reflect.DeepEqual(got, c.want) {
					t.Errorf("%s: want %q, got %q", ext, c.want, got)
				}
			}
		})
	}
}

type parquetMessage struct {
	Role    string `parquet:"role"`
	Content string `parquet:"content,optional"`
}

type parquetRow struct {
	Text     string           `parquet:"text"`
	Count    *int64           `parquet:"count,optional"`
	Score    float64          `parquet:"score"`
	OK       bool             `parquet:"ok"`
	Tags     []string         `parquet:"tags,list"`
	Messages []parquetMessage `parquet:"messages,list"`
	Nested   [][]int32        `parquet:"nested,list"`
	Raw      []byte           `parquet:"raw"`
}

func writeParquet(t testing.TB, path string, groups ...[]parquetRow) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := parquet.NewGenericWriter[parquetRow](f, parquet.Compression(&parquet.Zstd))
	for _, rows := range groups {
		if _, err := w.Write(rows); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestParquet(t *testing.T) {
	seven := int64(7)
	path := filepath.Join(t.TempDir(), "a.parquet")
	writeParquet(t, path,
		[]parquetRow{
			{Text: "中 \"a\"", Count: &seven, Score: 0.5, OK: true, Tags: []string{"x", "y"}, Messages: []parquetMessage{{"user", "hi"}, {"assistant", ""}}, Nested: [][]int32{{1, 2}, {}, {3}}, Raw: []byte("ok")},
			{Text: "b", Raw: []byte{0xff, 0}},
		},
		[]parquetRow{{Text: "c", Tags: []string{"z"}, Nested: [][]int32{{}}}})
	want := []string{
		`1:text="中 \"a\"",count=7,score=0.5,ok=true,tags=["x","y"],messages=[{"role":"user","content":"hi"},{"role":"assistant","content":null}],nested=[[1,2],[],[3]],raw="ok"`,
		`2:text="b",count=null,score=0,ok=false,tags=[],messages=[],nested=[],raw="data:application/octet-stream;base64,/wA="`,
		`3:text="c",count=null,score=0,ok=false,tags=["z"],messages=[],nested=[[]],raw=""`,
	}
	if got := readAll(t, ReadOptions{}, path); !reflect.DeepEqual(got, want) {
		t.Errorf("want\n%s\ngot\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "x.docx", "no")
	writeFile(t, dir, "cut.json", "[{\"a\": 1},")
	writeFile(t, dir, "bad.gz", "nogzip")
	writeFile(t, dir, "bad.jsonl.gz", "nogzip")
	writeFile(t, dir, "bad.jsonl.zst", "nozstd")
	writeFile(t, dir, "bad.parquet", "PAR1nothing")
	writeFile(t, dir, "head.csv", "a,a\n1,2\n")
	for _, c := range []struct{ path, want string }{
		{"missing.jsonl", "no such file"},
		{"x.docx", "unknown format"},
		{"cut.json", "before the closing ]"},
		{"bad.gz", "unknown format"},
		{"bad.jsonl.gz", "bad.jsonl.gz"},
		{"bad.jsonl.zst", "bad.jsonl.zst"},
		{"bad.parquet", "bad.parquet"},
		{"head.csv", "stands twice"},
	} {
		path := filepath.Join(dir, c.path)
		files, err := Open([]string{path}, ReadOptions{})
		for err == nil {
			_, err = files.Next()
		}
		if err == io.EOF || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: want an error with %q, got %v", c.path, c.want, err)
		}
	}
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open([]string{empty}, ReadOptions{}); err == nil || !strings.Contains(err.Error(), "no dataset file") {
		t.Errorf("empty folder: got %v", err)
	}
	if _, err := Open([]string{filepath.Join(dir, "cut.json")}, ReadOptions{TextUnit: "word"}); err == nil {
		t.Error("text_unit word was accepted")
	}
}

func TestFoldersAreReadInOrder(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"b", ".hidden"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, dir, "c.txt", "third\n")
	writeFile(t, dir, "a.txt", "first\n")
	writeFile(t, dir, "b/x.txt.gz", compress(t, "second\n", ".gz"))
	writeFile(t, dir, ".hidden/y.txt", "never\n")
	writeFile(t, dir, InfoFile, "{}")
	writeFile(t, dir, "picture.png", "no")
	want := []string{"1:text=first", "1:text=second", "1:text=third"}
	if got := readAll(t, ReadOptions{}, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("want %q, got %q", want, got)
	}
}

// fuzzReader checks that any bytes give records and errors in bounded number, and that positions are consistent.
func fuzzReader(f *testing.F, ext string, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := writeFile(t, t.TempDir(), "a"+ext, string(b))
		files, err := Open([]string{path}, ReadOptions{MaxRowBytes: 1 << 16})
		if err != nil {
			t.Fatal(err)
		}
		defer files.Close()
		for n := 0; ; n++ {
			at := files.Pos()
			row, err := files.Next()
			var bad *RowError
			if err != nil && !errors.As(err, &bad) {
				break
			}
			if n > len(b)+1 {
				t.Fatalf("%d records in %d bytes", n, len(b))
			}
			again, err2 := Open([]string{path}, ReadOptions{MaxRowBytes: 1 << 16})
			if err2 != nil {
				t.Fatal(err2)
			}
			if err2 = again.Seek(at); err2 != nil {
				t.Fatal(err2)
			}
			got, err2 := again.Next()
			if fmt.Sprint(err) != fmt.Sprint(err2) || !reflect.DeepEqual(got, row) {
				t.Errorf("at %+v: %v %v, after seeking %v %v", at, row, err, got, err2)
			}
			again.Close()
		}
	})
}

func FuzzText(f *testing.F) { fuzzReader(f, ".txt", "a\n\nb", "\xef\xbb\xbfx\r\n\xff") }
func FuzzLines(f *testing.F) {
	fuzzReader(f, ".jsonl", "{\"a\":1}\n{\"b\":[1,{}]}", "{\"a\":1,\"a\":2}", "{}\n[]")
}
func FuzzJSON(f *testing.F) {
	fuzzReader(f, ".json", "[{\"a\":1},{\"b\":\"]\"}]", "{\"a\":1}{\"b\":2}", "[1,2", "[]x")
}
func FuzzCSV(f *testing.F) {
	fuzzReader(f, ".csv", "a,b\n1,\"2\n3\"\n", "a\n\"", "\xef\xbb\xbfa\r\nx\r\n")
}
func FuzzParquet(f *testing.F) {
	path := filepath.Join(f.TempDir(), "a.parquet")
	writeParquet(f, path, []parquetRow{{Text: "a", Tags: []string{"b"}}})
	raw, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	fuzzReader(f, ".parquet", string(raw), "PAR1")
}
