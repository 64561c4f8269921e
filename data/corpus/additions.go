//go:build ignore

// additions writes what the learning proofs train on, from the built-in corpus: corpus.jsonl (documents of the training
// split), questions.jsonl (additions with their sums) and pairs.jsonl (a worked answer and one to another question), the
// last two for the held-out split too (held_out.jsonl, pairs_held_out.jsonl). Questions are English: a Chinese one and its
// answer share a token in the corpus.
//
//	go run data/corpus/additions.go DIR
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"strconv"

	"danlu/data/corpus"
)

func main() {
	dir := os.Args[1]
	if err := os.MkdirAll(dir, 0o755); err != nil {
		log.Fatal(err)
	}
	write(filepath.Join(dir, "corpus.jsonl"), 20000, func(i uint64) any {
		return map[string]string{"text": corpus.Document(corpus.Train, i)}
	})
	questions := func(split corpus.Split) func(i uint64) any {
		return func(i uint64) any {
			p := corpus.ProblemAt(corpus.English, split, i)
			return map[string]string{"instruction": p.Question, "output": strconv.Itoa(p.Answer())}
		}
	}
	// A pair is the worked answer to the question and the one to another question of the same split.
	pairs := func(split corpus.Split) func(i uint64) any {
		return func(i uint64) any {
			p, other := corpus.ProblemAt(corpus.English, split, i), corpus.ProblemAt(corpus.English, split, i+1)
			for k := i + 2; other.Worked == p.Worked; k++ {
				other = corpus.ProblemAt(corpus.English, split, k)
			}
			return map[string]string{"instruction": p.Question, "chosen": p.Worked, "rejected": other.Worked}
		}
	}
	write(filepath.Join(dir, "pairs.jsonl"), 4000, pairs(corpus.Train))
	write(filepath.Join(dir, "pairs_held_out.jsonl"), 200, pairs(corpus.HeldOut))
	write(filepath.Join(dir, "questions.jsonl"), 4000, questions(corpus.Train))
	write(filepath.Join(dir, "held_out.jsonl"), 400, questions(corpus.HeldOut))
}

func write(path string, n uint64, line func(i uint64) any) {
	f, err := os.Create(path)
	if err != nil {
		log.Fatal(err)
	}
	w := bufio.NewWriter(f)
	for i := range n {
		if err := json.NewEncoder(w).Encode(line(i)); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
}
