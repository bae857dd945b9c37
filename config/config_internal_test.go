package config

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// The annotated file of the manual has every key, its default and its range, and loads.
func TestManual(t *testing.T) {
	manual, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(manual), "```toml\n")
	text, _, _ = strings.Cut(text, "```")
	c, err := Parse("configuration.md", []byte(text), Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Cluster, want.Node, want.Members = c.Cluster, c.Node, c.Members
	if len(c.Members) != 3 || !reflect.DeepEqual(c, want) {
		t.Errorf("the manual shows other defaults:\n%s", c)
	}
	// Ranges may be broken over lines of comments.
	words := strings.Join(strings.Fields(strings.ReplaceAll(text, "\n#", "\n")), " ")
	sections := append(c.sections(), section{memberTable, c.Members[0].settings()})
	for _, section := range sections {
		for _, s := range section.settings {
			if !strings.Contains(words, s.value.want()) {
				t.Errorf("the manual does not say of %s.%s: %s", section.name, s.key, s.value.want())
			}
			if !strings.Contains(text, "\n"+s.key+" = ") {
				t.Errorf("the manual has no %s.%s", section.name, s.key)
			}
		}
	}
}

func TestPositions(t *testing.T) {
	text := `# comment with [table] and key = 1
a.b = 1
[ t . "x y" ] # comment
'literal' = """
[not.a.table]
\""" # no comment
""""
after = 'x # y'
list = [ 1, # one ]
  [ "]", 2 ],
  { k = { l = "}" } } ]

[[m]]
v = 1
[m.sub]
w = 2
[[m.list]]
[[m]]
v = 3979-05-27 07:32:00
[[m.list]]
z = true
[[m.list]]
z = false
`
	want := map[string]int{
		"a": 2, "a.b": 2, "t": 3, `t."x y"`: 3, `t."x y".literal`: 4, `t."x y".after`: 8,
		`t."x y".list`: 9, `t."x y".list[0]`: 9, `t."x y".list[1]`: 10, `t."x y".list[1][0]`: 10,
		`t."x y".list[1][1]`: 10, `t."x y".list[2]`: 11, `t."x y".list[2].k`: 11,
		`t."x y".list[2].k.l`: 11, "m": 13, "m[0]": 13, "m[0].v": 14, "m[0].sub": 15,
		"m[0].sub.w": 16, "m[0].list": 17, "m[0].list[0]": 17, "m[1]": 18, "m[1].v": 19,
		"m[1].list": 20, "m[1].list[0]": 20, "m[1].list[0].z": 21, "m[1].list[1]": 22,
		"m[1].list[1].z": 23,
	}
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{text, strings.ReplaceAll(text, "\n", "\r\n"), "\ufeff" + text} {
		got := map[string]int{}
		for path, place := range positions(text) {
			got[path] = place.line
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
	if got := positions(text)["m[1].v"].source; got != "3979-05-27 07:32:00" {
		t.Errorf("source is %q", got)
	}
}

// Every key that the TOML library finds has a position.
func FuzzPositions(f *testing.F) {
	f.Add("[[a.b]]\nc = [{d = 1}, {d.e = '''\n'x'''}]\n\"\\u0061\" = 1979-05-27 07:32:00Z # x\n")
	f.Add("a = \"\"\"\\\n  b\\\"\"\"\"\n[x.y]\n[x]\nz={}\n[[q]]\n[q.r]\n[[q]]\n[q.r]\n")
	f.Fuzz(func(t *testing.T, text string) {
		places := positions(text)
		for path, place := range places {
			if place.line < 1 || place.line > strings.Count(text, "\n")+1 {
				t.Errorf("%s in line %d", path, place.line)
			}
		}
		var tree map[string]any
		if _, err := toml.Decode(text, &tree); err == nil && plain(text) {
			requirePlaces(t, places, "", tree)
		}
	})
}

// plain leaves out escapes in keys, which positions reads as Go does; only the line of such a key
// would not be found.
func plain(text string) bool { return !strings.Contains(text, `\`) }

func requirePlaces(t *testing.T, places map[string]place, path string, v any) {
	if _, ok := places[path]; !ok && path != "" {
		t.Errorf("no position for %s", path)
	}
	switch v := v.(type) {
	case map[string]any:
		for key, v := range v {
			requirePlaces(t, places, child(path, key), v)
		}
	case []map[string]any:
		for i, v := range v {
			requirePlaces(t, places, element(path, i), v)
		}
	case []any:
		for i, v := range v {
			requirePlaces(t, places, element(path, i), v)
		}
	}
}
