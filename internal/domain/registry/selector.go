package registry

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"stoa/internal/platform/id"
)

const (
	latest = "latest"
	// selectorBytes bounds the text of a selector.
	selectorBytes = 128
	// maxSegment is the largest number of a version: beyond it, "the next major
	// version" would not fit.
	maxSegment = 1 << 53
)

// reference names a package by its id or by publisher and name.
type reference struct {
	id              id.Package
	publisher, name string
	// selector is what follows the @; "" when there is none.
	selector string
}

// grammar reads references and selectors.
type grammar struct {
	name, digest, partial *regexp.Regexp
}

func newGrammar() grammar {
	return grammar{
		name:    regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){1,38}$`),
		digest:  regexp.MustCompile(`^sha256:[0-9a-f]{64}$`),
		partial: regexp.MustCompile(`^(0|[1-9][0-9]{0,15})(\.(0|[1-9][0-9]{0,15}))?$`),
	}
}

// reference reads pkg_... or publisher~name, and an optional @selector. What
// cannot be read is a package that does not exist.
func (g grammar) reference(text string) (reference, error) {
	if len(text) > 2*39+1+1+selectorBytes {
		return reference{}, PackageNotFound
	}
	text, selector, selected := strings.Cut(text, "@")
	if selected && selector == "" {
		return reference{}, InvalidSelector.At("path/package_id", "must have a version after the @")
	}
	ref := reference{selector: selector}
	if parsed, err := id.Parse[id.Package](text); err == nil {
		ref.id = parsed
		return ref, nil
	}
	publisher, name, ok := strings.Cut(text, "~")
	if !ok || !g.name.MatchString(publisher) || !g.name.MatchString(name) {
		return reference{}, PackageNotFound
	}
	ref.publisher, ref.name = publisher, name
	return ref, nil
}

// selector chooses among the versions of a package.
type selector struct {
	digest string
	// exact is the text of one version.
	exact string
	// from and below bound a range; both nil means the latest.
	from, below *semver.Version
}

// selector reads 1.2.0, ^1, ~1.2, latest or sha256:...; "" is latest.
func (g grammar) selector(text string) (selector, error) {
	switch {
	case text == "" || text == latest:
		return selector{}, nil
	case len(text) > selectorBytes:
		return selector{}, InvalidSelector
	case g.digest.MatchString(text):
		return selector{digest: text}, nil
	case text[0] == '^' || text[0] == '~':
		return g.span(text)
	}
	v, err := parseVersion(text)
	if err != nil {
		return selector{}, InvalidSelector.Because(err)
	}
	return selector{exact: v.Original()}, nil
}

// span reads ^1, ^1.2, ^1.2.3, ~1, ~1.2 and ~1.2.3, with a pre-release after
// three numbers only. As npm has it, ^ keeps the first number that is not zero
// and ~ the minor version.
func (g grammar) span(text string) (selector, error) {
	given, full := text[1:], text[1:]
	dots := strings.Count(given, ".")
	if g.partial.MatchString(given) {
		full += strings.Repeat(".0", 2-dots)
	}
	from, err := parseVersion(full)
	if err != nil {
		return selector{}, InvalidSelector.Because(err)
	}
	major, minor, patch := from.Major(), from.Minor(), from.Patch()
	partial := full != given
	switch {
	case text[0] == '~' && partial && dots == 0, text[0] == '^' && (major > 0 || partial && dots == 0):
		major, minor, patch = major+1, 0, 0
	case text[0] == '~', minor > 0, partial:
		minor, patch = minor+1, 0
	default:
		patch++
	}
	return selector{from: from, below: semver.New(major, minor, patch, "", "")}, nil
}

// parseVersion reads a full version without build metadata.
func parseVersion(text string) (*semver.Version, error) {
	if len(text) > selectorBytes {
		return nil, semver.ErrVersionTooLong
	}
	v, err := semver.StrictNewVersion(text)
	if err != nil {
		return nil, err
	}
	if v.Metadata() != "" {
		return nil, semver.ErrInvalidMetadata
	}
	for _, n := range []uint64{v.Major(), v.Minor(), v.Patch()} {
		if n > maxSegment {
			return nil, strconv.ErrRange
		}
	}
	return v, nil
}

// best is the highest version that the range accepts, or nil. Pre-releases count
// only for a range that starts with one of the same three numbers.
func (s selector) best(all []Release) *Release {
	var found *Release
	var highest *semver.Version
	for i := range all {
		v, err := parseVersion(all[i].Version)
		if err != nil || v.LessThan(s.from) || !v.LessThan(s.below) {
			continue
		}
		asked := s.from.Prerelease() != "" && v.Major() == s.from.Major() && v.Minor() == s.from.Minor() && v.Patch() == s.from.Patch()
		if v.Prerelease() != "" && !asked {
			continue
		}
		if highest == nil || v.GreaterThan(highest) {
			found, highest = &all[i], v
		}
	}
	return found
}

// higher says that version a comes after version b. Both were checked before.
func higher(a, b string) bool {
	x, errX := parseVersion(a)
	y, errY := parseVersion(b)
	return errX == nil && errY == nil && x.GreaterThan(y)
}

// stable says that a checked version is no pre-release.
func stable(version string) bool { return !strings.Contains(version, "-") }
