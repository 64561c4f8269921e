package danlu

import "embed"

// Recipes are the built-in recipes, recipes/NAME.yaml.
//
//go:embed recipes/*.yaml
var Recipes embed.FS
