package main

import (
	"strings"

	"danlu/recipe"
)

// recipeFlags turns LLaMA-Factory's flags (--stage sft, --bf16) behind `danlu train` into the words that replace keys of
// a recipe (stage=sft, bf16=true). Flags of the verb itself stay as they are.
func recipeFlags(args []string) []string {
	own := map[string]bool{"force": true, "json": true, "quiet": true, "threads": true, "help": true}
	var out []string
	for i := 0; i < len(args); i++ {
		flag, ok := strings.CutPrefix(args[i], "--")
		name, value, valued := strings.Cut(flag, "=")
		name = strings.ReplaceAll(name, "-", "_")
		if !ok || own[name] || !recipe.IsKey(name) {
			out = append(out, args[i])
			continue
		}
		if !valued {
			value = "true"
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
				i++
				value = args[i]
			}
		}
		out = append(out, name+"="+value)
	}
	return out
}
