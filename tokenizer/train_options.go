package tokenizer

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// spmOptions are spm_train's names of the fields.
var spmOptions = map[string]string{
	"vocab_size": "VocabSize", "character_coverage": "CharacterCoverage", "max_sentence_length": "MaxSentenceLength",
	"max_sentencepiece_length": "MaxSentencePieceLength", "byte_fallback": "ByteFallback",
	"split_by_unicode_script": "SplitByUnicodeScript", "split_by_number": "SplitByNumber", "split_by_whitespace": "SplitByWhitespace",
	"split_digits": "SplitDigits", "treat_whitespace_as_suffix": "TreatWhitespaceAsSuffix",
	"allow_whitespace_only_pieces": "AllowWhitespaceOnlyPieces", "control_symbols": "ControlSymbols",
	"user_defined_symbols": "UserDefinedSymbols", "required_chars": "RequiredChars", "unk_id": "UnkID", "bos_id": "BOSID",
	"eos_id": "EOSID", "pad_id": "PadID", "unk_piece": "UnkPiece", "bos_piece": "BOSPiece", "eos_piece": "EOSPiece",
	"pad_piece": "PadPiece", "unk_surface": "UnkSurface", "normalization_rule_name": "NormalizationRuleName",
	"add_dummy_prefix": "AddDummyPrefix", "remove_extra_whitespaces": "RemoveExtraWhitespaces", "hard_vocab_limit": "HardVocabLimit",
}

// SPMOptionNames lists spm_train's options that Set takes.
func SPMOptionNames() []string {
	var names []string
	for n := range spmOptions {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Get returns an option by spm_train's name, as its flag would be written.
func (s *SPMTrainer) Get(name string) string {
	f := reflect.ValueOf(s).Elem().FieldByName(spmOptions[name])
	if list, ok := f.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(f.Interface())
}

// Set sets an option by spm_train's name, written as its flag is. model_type must be bpe; num_threads belongs to
// Counting.
func (s *SPMTrainer) Set(name, value string) error {
	fail := func(want string) error {
		return fmt.Errorf("tokenizer: train: %s: want %s, got %q", name, want, clip(value))
	}
	switch name {
	case "model_type":
		if value != "bpe" {
			return fail("bpe")
		}
		return nil
	case "num_threads":
		return nil
	}
	field, ok := spmOptions[name]
	if !ok {
		return fmt.Errorf("tokenizer: train: %s: no such option", name)
	}
	switch f := reflect.ValueOf(s).Elem().FieldByName(field); f.Interface().(type) {
	case bool:
		v, err := strconv.ParseBool(value)
		if err != nil {
			return fail("true or false")
		}
		f.SetBool(v)
	case string:
		f.SetString(value)
	case []string:
		if value != "" {
			f.Set(reflect.ValueOf(strings.Split(value, ",")))
		}
	case float32:
		v, err := strconv.ParseFloat(value, 32)
		if err != nil {
			return fail("a number")
		}
		f.SetFloat(v)
	default:
		v, err := strconv.ParseInt(value, 10, 32)
		if err != nil {
			return fail("a whole number")
		}
		f.SetInt(v)
	}
	return nil
}
