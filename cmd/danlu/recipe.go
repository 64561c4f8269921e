package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"danlu"
	"danlu/internal/locale"
	"danlu/recipe"
)

func init() { verbs = append(verbs, newRecipe) }

func newRecipe(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "recipe", Short: locale.Text("Show the built-in recipes and the keys of recipes", "查看内置配方与配方的键"), Args: cobra.NoArgs}
	cmd.AddCommand(newRecipeList(o), newRecipeShow(), newRecipeKeys(o))
	return cmd
}

// loadRecipe reads a recipe file, or a built-in recipe by its name, with key=value words behind it; where all words are
// key=value, those alone.
func loadRecipe(args []string) (*recipe.Recipe, error) {
	if strings.Contains(args[0], "=") {
		return recipe.Parse(nil, locale.Text("command line", "命令行"), args)
	}
	info, err := os.Stat(args[0])
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() { // a folder that the recipe has left under its own name
		if text, err := builtinRecipe(args[0]); err == nil {
			return recipe.Parse(text, args[0], args[1:])
		}
		return nil, fmt.Errorf("%s: neither a file nor a built-in recipe; built-in are %s", args[0], strings.Join(recipeNames(), ", "))
	}
	return recipe.Load(args[0], args[1:])
}

func builtinRecipe(name string) ([]byte, error) {
	if strings.ContainsAny(name, `/\`) {
		return nil, fs.ErrNotExist
	}
	return danlu.Recipes.ReadFile(path.Join("recipes", name+".yaml"))
}

func recipeNames() []string {
	entries, err := danlu.Recipes.ReadDir("recipes")
	if err != nil {
		panic(err) // embedded
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// described is a built-in recipe in a list.
type described struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

func newRecipeList(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   locale.Text("List the built-in recipes", "列出内置配方"),
		Example: "  danlu recipe list",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			var all []described
			for _, name := range recipeNames() {
				text, err := builtinRecipe(name)
				if err != nil {
					return err
				}
				d, err := recipe.Describe(text, name)
				if err != nil {
					return err
				}
				all = append(all, described{name, d})
			}
			if o.json {
				return printJSON(all)
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			for _, d := range all {
				fmt.Fprintf(w, "%s\t%s\n", d.Name, d.Description)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}

func newRecipeShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   locale.Text("Print a built-in recipe, to start one of your own from", "输出一个内置配方，可作为自己配方的起点"),
		Example: "  danlu recipe show sft_full > my.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := builtinRecipe(args[0])
			if err != nil {
				return fmt.Errorf("%s: is not built in; built-in are %s", args[0], strings.Join(recipeNames(), ", "))
			}
			_, err = os.Stdout.Write(text)
			return err
		},
	}
}

func newRecipeKeys(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keys",
		Short:   locale.Text("List the keys of recipes with their types and defaults", "列出配方的键、类型与默认值"),
		Example: "  danlu recipe keys",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			type key struct {
				Name    string   `json:"name"`
				Type    string   `json:"type"`
				Default string   `json:"default"`
				OneOf   []string `json:"one_of,omitempty"`
			}
			var all []key
			for _, k := range recipe.Keys() {
				all = append(all, key{k.Name, k.Type, k.Default, k.OneOf})
			}
			if o.json {
				return printJSON(map[string]any{"keys": all, "without_meaning": recipe.Meaningless()})
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			for _, k := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.Name, k.Type, k.Default, strings.Join(k.OneOf, " "))
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Printf("\n%s: %s\n", locale.Text("accepted and without meaning here", "可以写但此处无意义"), strings.Join(recipe.Meaningless(), " "))
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, locale.Text("print JSON", "输出 JSON"))
	return cmd
}
