package grammar

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas of the kinds that people send, with values that are valid and admitted.
var schemas = []struct {
	schema string
	yes    []string
}{
	{`{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"],"additionalProperties":false}`,
		[]string{`{"name": "Li", "age": 3}`, `{"name":"\u4e2d\n","age":-12}`, "{\n  \"name\": \"\",\n  \"age\": 0\n}"}},
	{`{"type":"object","properties":{"a":{"type":"null"},"b":{"type":"boolean"},"c":{"type":"number"}},"required":["b"]}`,
		[]string{`{"b":true}`, `{"a":null,"b":false}`, `{"b":true,"c":-1.5e3}`, `{"a":null, "b":false, "c":0}`}},
	{`{"enum":["red","green",3,null,{"a":[1,2]}]}`, []string{`"red"`, `3`, `null`, `{"a": [1, 2]}`}},
	{`{"const":"x\"y"}`, []string{`"x\"y"`}},
	{`{"type":["string","null"]}`, []string{`"a"`, `null`}},
	{`{"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3}`, []string{`[1, 2]`, `[1,2,3]`, "[\n 1,\n 2]"}},
	{`{"type":"array","prefixItems":[{"type":"string"},{"type":"boolean"}],"items":{"type":"null"},"minItems":1}`, []string{`["a"]`, `["a",true]`, `["a",true,null,null]`}},
	{`{"type":"array","prefixItems":[{"type":"string"},{"type":"boolean"}],"items":false,"minItems":2}`, []string{`["a",true]`}},
	{`{"type":"array","maxItems":0}`, []string{`[]`}},
	{`{"anyOf":[{"type":"string","maxLength":3},{"type":"integer","minimum":10,"maximum":12}]}`, []string{`"abc"`, `11`}},
	{`{"type":"object","properties":{"kind":{"type":"string"}},"required":["kind"],"oneOf":[{"properties":{"kind":{"const":"a"},"x":{"type":"integer"}},"required":["x"]},{"properties":{"kind":{"const":"b"}}}]}`,
		[]string{`{"kind":"a","x":1}`, `{"kind":"b"}`}},
	{`{"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"a":{"minimum":3},"b":{"type":"string"}},"required":["b"]}]}`, []string{`{"a":3,"b":""}`}},
	{`{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"value":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["value","next"],"additionalProperties":false}}}`,
		[]string{`{"value":1,"next":{"value":2,"next":null}}`}},
	{`{"type":"object","properties":{"children":{"type":"array","items":{"$ref":"#"}}},"additionalProperties":false}`, []string{`{}`, `{"children":[{},{"children":[]}]}`}},
	{`{"type":"string","pattern":"^[A-Z]{2}-\\d{3}$"}`, []string{`"AB-123"`}},
	{`{"type":"string","pattern":"b\"+"}`, []string{`"ab\"\"c"`, `"b\""`}},
	{`{"type":"string","minLength":2,"maxLength":4}`, []string{`"ab"`, `"中文é!"`, `"\"\\"`}},
	{`{"type":"integer","minimum":-12,"maximum":1034}`, []string{`-12`, `-1`, `0`, `999`, `1034`}},
	{`{"type":"integer","exclusiveMinimum":0,"exclusiveMaximum":10}`, []string{`1`, `9`}},
	{`{"type":"integer","minimum":2.5,"maximum":7.5}`, []string{`3`, `7`}},
	{`{"type":"number","minimum":0,"maximum":1}`, []string{`0`, `0.5`, `1`, `1.0`}},
	{`{"type":"number","exclusiveMinimum":-2,"maximum":3}`, []string{`-1.999`, `-1`, `-0.5`, `0`, `3`, `3.00`}},
	{`{"type":"number","minimum":7}`, []string{`7`, `7.25`, `1000`}},
	{`{"type":"number","exclusiveMaximum":0}`, []string{`-0.001`, `-12`}},
	{`{"type":"string","format":"date"}`, []string{`"2024-02-29"`, `"1999-12-31"`}},
	{`{"type":"string","format":"date-time"}`, []string{`"2024-02-28T23:59:59Z"`, `"2024-06-30T00:00:00.5+08:00"`}},
	{`{"type":"string","format":"time"}`, []string{`"12:34:56Z"`}},
	{`{"type":"string","format":"uuid"}`, []string{`"123e4567-e89b-12d3-a456-426614174000"`}},
	{`{"type":"string","format":"ipv4"}`, []string{`"255.0.10.199"`}},
	{`{"type":"string","format":"email"}`, []string{`"a.b-c@example.org"`}},
	{`{"type":"object","additionalProperties":{"type":"integer"}}`, []string{`{}`, `{"a":1, "é":2}`}},
	{`{"type":"object","properties":{"ab":{"type":"string"},"a":{"type":"string"}},"additionalProperties":{"type":"integer"}}`, []string{`{"ab":"x","b":1}`, `{"abc":1,"":2}`, `{"ac":3}`}},
	{`{"type":"object","additionalProperties":false}`, []string{`{}`}},
	{`{"type":"object"}`, []string{`{}`, `{"a":[{"b":null}]}`}},
	{`{"properties":{"x":true},"required":["x","y"]}`, []string{`{"x":[],"y":{}}`}},
	{`true`, []string{`[1,"a",{"b":false}]`, `0`}},
	{`{"title":"T","description":"D","type":"object","properties":{"id":{"type":"integer","description":"the id","default":3}},"required":["id"]}`, []string{`{"id":4}`}},
	{`{"$defs":{"c":{"type":"string","enum":["x","y"]}},"type":"object","properties":{"c":{"$ref":"#/$defs/c","description":"one"},"d":{"$ref":"#/$defs/c","minLength":1}},"required":["c"]}`, nil},
}

// validator is another implementation of JSON Schema.
func validator(t testing.TB, schema string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("s.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("s.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func valid(t testing.TB, s *jsonschema.Schema, text string) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// What a schema's grammar writes is valid, by another implementation, and the usual values are admitted.
func TestSchemaWritesValidValues(t *testing.T) {
	words := builtin(t)
	rng := rand.New(rand.NewPCG(5, 5))
	complete := 0
	for _, c := range schemas {
		if strings.Contains(c.schema, `"minLength":1`) {
			continue // enum beside minLength is refused
		}
		s := validator(t, c.schema)
		for _, v := range []*Vocabulary{words, letters()} {
			g, err := FromSchema([]byte(c.schema), v)
			if err != nil {
				t.Errorf("%s: %v", c.schema, err)
				break
			}
			for _, x := range c.yes {
				if err := valid(t, s, x); err != nil {
					t.Fatalf("%s: the test's own %s: %v", c.schema, x, err)
				}
				if !admits(g, x) {
					t.Errorf("%s: %s is not admitted", c.schema, x)
				}
			}
			for range 12 {
				x, ok := write(t, g, rng, 0.5, 150)
				if !ok {
					continue
				}
				complete++
				if err := valid(t, s, x); err != nil {
					t.Errorf("%s: wrote %s: %v", c.schema, x, err)
				}
			}
		}
	}
	if complete < 300 {
		t.Errorf("only %d values came to an end", complete)
	}
}

// Values that a schema forbids are not admitted.
func TestSchemaRefusesInvalidValues(t *testing.T) {
	for schema, values := range map[string][]string{
		schemas[0].schema: {`{"age":3,"name":"a"}`, `{"name":"a"}`, `{"name":"a","age":1.5}`, `{"name":"a","age":1,"x":2}`, `{"name":"a" "age":1}`, `{"name":"\x01","age":1}`, `{"name":"\ud800","age":1}`, `{"name":"a","age":01}`},
		`{"type":"integer","minimum":-12,"maximum":1034}`:                                                   {"-13", "-0", "1035", "2000", "00", "1.0", "9999"},
		`{"type":"number","minimum":0,"maximum":1}`:                                                         {"-0.1", "1.1", "2", "1.01", "1e3"},
		`{"type":"number","exclusiveMinimum":0}`:                                                            {"0", "0.0", "-1"},
		`{"type":"string","minLength":2,"maxLength":4}`:                                                     {`"a"`, `"abcde"`, `""`},
		`{"type":"string","format":"date"}`:                                                                 {`"2024-13-01"`, `"2024-02-30"`, `"2024-04-31"`},
		`{"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3}`:                             {`[]`, `[1]`, `[1,2,3,4]`, `[1,2,]`, `[,1,2]`},
		`{"type":"object","properties":{"ab":{"type":"string"}},"additionalProperties":{"type":"integer"}}`: {`{"ab":1}`, `{"c":1,"ab":"x"}`, `{"\u0061b":1}`},
		`{"type":"object","additionalProperties":false}`:                                                    {`{"a":1}`},
	} {
		g, err := FromSchema([]byte(schema), letters())
		if err != nil {
			t.Fatalf("%s: %v", schema, err)
		}
		for _, x := range values {
			if admits(g, x) {
				t.Errorf("%s: %s is admitted", schema, x)
			}
		}
	}
}

// What cannot be held is named.
func TestSchemaErrors(t *testing.T) {
	for schema, want := range map[string]string{
		`{`:                                   "EOF",
		`3`:                                   "want an object",
		`{"type":"text"}`:                     "type: want object",
		`{"not":{}}`:                          `"not" is not supported`,
		`{"type":"array","uniqueItems":true}`: `"uniqueItems"`,
		`{"properties":{"a":{"type":"integer","multipleOf":3}}}`: `#/properties/a: "multipleOf"`,
		`{"if":{},"then":{}}`:                           `"if"`,
		`{"type":"string","format":"color"}`:            `format "color"`,
		`{"type":"string","pattern":"a(?=b)"}`:          "pattern",
		`{"type":"string","pattern":"a","maxLength":3}`: "beside pattern",
		`{"type":"number","minimum":0.5}`:               "have to be whole",
		`{"type":"integer","minimum":5,"maximum":4}`:    "no number",
		`{"type":"string","minLength":5,"maxLength":4}`: "more than maxLength",
		`{"type":"string","maxLength":200000}`:          "maxLength",
		`{"$ref":"#/$defs/none"}`:                       "there is no #/$defs/none",
		`{"$ref":"http://x/y"}`:                         "place in this schema",
		`{"$ref":"#"}`:                                  "no text satisfies",
		`{"allOf":[{"$ref":"#"}]}`:                      "nest deeper",
		`{"anyOf":[]}`:                                  "anyOf",
		`{"enum":[]}`:                                   "no value",
		`{"type":"string","enum":[3]}`:                  "no value",
		`false`:                                         "no text satisfies",
		`{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}`:                       "no text satisfies",
		`{"allOf":[{"properties":{"a":{}},"additionalProperties":false},{"properties":{"b":{}}}]}`: "cannot be merged",
		`{"allOf":[{"type":"string"},{"type":"null"}]}`:                                            "cannot be merged",
		`{"type":"object","minProperties":2}`:                                                      "minProperties",
		`{"type":"object","required":["a"],"additionalProperties":false}`:                          "forbids",
		schemas[len(schemas)-1].schema:                                                             `"minLength" beside`,
	} {
		if _, err := FromSchema([]byte(schema), letters()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error with %q, got %v", schema, want, err)
		}
	}
}

func TestJSONMode(t *testing.T) {
	g, err := FromJSON(builtin(t))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 5))
	for range 40 {
		if x, ok := write(t, g, rng, 1, 400); ok && !json.Valid([]byte(x)) {
			t.Errorf("wrote %s", x)
		}
	}
	for _, x := range []string{`{}`, `{"a": [1, 2.5e-3, {"b": null}], "c": "\ud83d\ude00 \\"}`} {
		if !admits(g, x) {
			t.Errorf("%s is not admitted", x)
		}
	}
	if admits(g, `[]`) || admits(g, `{"a":1,}`) {
		t.Error("what is no object is admitted")
	}
	deep := strings.Repeat(`{"a":`, 5000)
	if m := g.Matcher(); m.AcceptText(deep) == nil {
		t.Error("a text of 5000 levels is admitted")
	}
}

func FuzzSchema(f *testing.F) {
	for _, c := range schemas {
		f.Add(c.schema)
	}
	v := letters()
	f.Fuzz(func(t *testing.T, schema string) {
		if len(schema) > 2000 {
			return
		}
		g, err := FromSchema([]byte(schema), v)
		if err != nil {
			return
		}
		rng := rand.New(rand.NewPCG(1, 2))
		if x, ok := write(t, g, rng, 0.5, 40); ok && !json.Valid([]byte(x)) {
			t.Errorf("%s: wrote %q", schema, x)
		}
	})
}
