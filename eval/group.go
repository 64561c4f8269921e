package eval

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Group is a number of tasks whose figures are put together: a group file, or the tasks of a tag.
type Group struct {
	Name, Alias string
	Tasks       []string // after groups within it were taken apart
	aggregates  []aggregate
	members     []member
}

// member is an entry of a group's list: a name, with keys that it changes.
type member struct {
	name     string
	settings []setting
}

// aggregate is an entry of aggregate_metric_list.
type aggregate struct {
	metric  string
	filters []string
	bySize  bool
}

// newGroup reads a group file.
func newGroup(file string, settings []setting) (*Group, error) {
	g := &Group{}
	for _, s := range settings {
		var err error
		switch s.key {
		case "group":
			g.Name, err = text(s.node)
		case "group_alias":
			g.Alias, err = text(s.node)
		case "task":
			g.members, err = readMembers(s.node)
		case "aggregate_metric_list":
			g.aggregates, err = readAggregates(s.node)
		case "tag", "metadata":
		default:
			return nil, unknownKey(file, s.key, []string{"group", "group_alias", "task", "aggregate_metric_list", "tag", "metadata"})
		}
		if err != nil {
			return nil, fmt.Errorf("eval: %s:%d: %s: %w", file, s.node.Line, s.key, err)
		}
	}
	return g, nil
}

func readMembers(n *yaml.Node) ([]member, error) {
	var list []member
	for _, c := range n.Content {
		if c.Kind != yaml.MappingNode {
			list = append(list, member{name: c.Value})
			continue
		}
		var m member
		for i := 0; i+1 < len(c.Content); i += 2 {
			if key := c.Content[i].Value; key == "task" && c.Content[i+1].Kind == yaml.ScalarNode {
				m.name = c.Content[i+1].Value
			} else {
				m.settings = append(m.settings, setting{key, c.Content[i+1]})
			}
		}
		if m.name == "" {
			return nil, errors.New("an entry without task; groups within groups are named, and written in files of their own")
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		return nil, errors.New("want a list of tasks")
	}
	return list, nil
}

func readAggregates(n *yaml.Node) ([]aggregate, error) {
	var list []aggregate
	entries := n.Content
	if n.Kind == yaml.MappingNode { // a single one
		entries = []*yaml.Node{n}
	}
	for _, c := range entries {
		a := aggregate{bySize: true}
		err := pairs(c, func(key string, v *yaml.Node) (err error) {
			switch key {
			case "metric":
				a.metric, err = text(v)
			case "weight_by_size":
				a.bySize, err = truth(v)
			case "filter_list":
				a.filters, err = texts(v)
			case "aggregation":
				if v.Value != "mean" {
					err = fmt.Errorf("want mean, got %q", v.Value)
				}
			case "higher_is_better":
			default:
				err = errors.New("unknown key")
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

func (g *Group) alias() string {
	if g.Alias != "" {
		return g.Alias
	}
	return g.Name
}

// figures are the "metric,filter" keys of a group, with how its tasks are weighted: those of its list, or for a tag those
// that all its tasks have.
func (g *Group) figures(r *Report) map[string]bool {
	out := map[string]bool{}
	for _, a := range g.aggregates {
		filters := a.filters
		if filters == nil {
			filters = []string{"none"}
		}
		for _, f := range filters {
			out[a.metric+","+f] = a.bySize
		}
	}
	if g.aggregates != nil || len(g.Tasks) == 0 {
		return out
	}
	for key := range r.values[g.Tasks[0]] {
		out[key] = true
	}
	return out
}

// group adds the groups' figures.
func (r *Report) group(groups []*Group) {
	for _, g := range groups {
		res := Result{"alias": g.alias()}
		figures := g.figures(r)
		for _, key := range slices.Sorted(maps.Keys(figures)) {
			x, se, ok := r.together(g.Tasks, key, figures[key])
			if !ok {
				continue
			}
			metric, filter, _ := strings.Cut(key, ",")
			res[key] = x
			if !math.IsNaN(se) {
				res[metric+"_stderr,"+filter] = se
			}
		}
		if r.Groups == nil {
			r.Groups, r.Subtasks = map[string]Result{}, map[string][]string{}
		}
		r.Groups[g.Name], r.Subtasks[g.Name] = res, slices.Clone(g.Tasks)
	}
}

// together is the mean of tasks' figures and its standard error: pooled where tasks weigh as many items as they have,
// else that of a mean of independent means.
func (r *Report) together(tasks []string, key string, bySize bool) (x, se float64, ok bool) {
	metric, filter, _ := strings.Cut(key, ",")
	sum, weight, variance, items := 0.0, 0.0, 0.0, 0.0
	for _, name := range tasks {
		v, isNumber := r.Results[name][key].(float64)
		if !isNumber {
			return 0, 0, false
		}
		e, isNumber := r.Results[name][metric+"_stderr,"+filter].(float64)
		if !isNumber {
			e = math.NaN()
		}
		n, w := float64(r.Counts[name].Effective), 1.0
		if bySize {
			w = n
		}
		sum, weight, items = sum+w*v, weight+w, items+n
		if bySize {
			variance += (n - 1) * e * e * n
		} else {
			variance += e * e
		}
	}
	k := float64(len(tasks))
	if bySize {
		se = math.Sqrt(variance / (items - k) / items)
	} else {
		se = math.Sqrt(variance) / k
	}
	return sum / weight, se, len(tasks) > 0
}
