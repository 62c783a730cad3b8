package config

import (
	"fmt"
	"strings"
)

// Markdown is docs/config.md: every setting with its type, default and meaning,
// made from the tags of Config. It is the same on every machine.
func Markdown() string {
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Made from internal/config/config.go; do not edit. -->

Everything is set by environment variables. A wrong value stops the start, and every wrong one is named at once; so is
a variable that starts with ` + "`STOA_`" + ` and is not listed here. An empty variable counts as unset, but for
` + "`STOA_ADMIN_LISTEN`" + `.

A secret (marked *secret*) can come from a file instead: ` + "`NAME_FILE`" + ` holds its path, one newline at the end of the file is
dropped, and a file that everybody on the machine can read is refused. Setting both is an error.
`)
	for _, f := range fields() {
		if group := f.Tag.Get("group"); group != "" {
			fmt.Fprintf(&b, "\n## %s\n\n| name | type | default | what it does |\n|---|---|---|---|\n", group)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, cell(kind(f)), cell(shownDefault(f)), cell(f.Tag.Get("doc")))
	}
	return b.String()
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// kind is what to write, with the bounds of numbers and the mark of secrets.
func kind(f field) string {
	text := f.Tag.Get("want")
	if least := f.Tag.Get("min"); least != "" {
		text += fmt.Sprintf(" (%s to %s)", least, f.Tag.Get("max"))
	}
	if f.secret {
		text += ", *secret*"
	}
	return text
}

func shownDefault(f field) string {
	if text := f.Tag.Get("default"); text != "" {
		return text
	}
	if text := f.Tag.Get("envDefault"); text != "" {
		return "`" + text + "`"
	}
	return "unset"
}
