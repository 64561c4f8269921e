package main

import (
	"bufio"
	"errors"
	"io"

	"github.com/peterh/liner"
)

// errAborted is an interrupt at the prompt.
var errAborted = errors.New("aborted")

// input is where the user's lines come from. Line returns errAborted on an interrupt and io.EOF at the end.
type input interface {
	Line(prompt string) (string, error)
	Close() error
}

// editor reads lines from a terminal, with editing and history.
type editor struct{ *liner.State }

func newEditor() editor {
	s := liner.NewLiner()
	s.SetCtrlCAborts(true)
	s.SetMultiLineMode(true)
	return editor{s}
}

// Line implements input.
func (e editor) Line(prompt string) (string, error) {
	line, err := e.Prompt(prompt)
	if errors.Is(err, liner.ErrPromptAborted) {
		return "", errAborted
	}
	if err == nil && line != "" {
		e.AppendHistory(line)
	}
	return line, err
}

// maxLine bounds a line that comes from a pipe, in bytes.
const maxLine = 1 << 26

// lines reads lines from a pipe or a file.
type lines struct{ *bufio.Scanner }

func newLines(r io.Reader) lines {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	return lines{s}
}

// Line implements input.
func (l lines) Line(string) (string, error) {
	if l.Scan() {
		return l.Text(), nil
	}
	if err := l.Err(); err != nil {
		return "", err
	}
	return "", io.EOF
}

// Close implements input.
func (l lines) Close() error { return nil }
