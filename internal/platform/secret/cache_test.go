package secret

import (
	"testing"
	"time"

	"stoa/internal/platform/id"
)

func TestTheKeyCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	ids := id.NewSource(time.Now, nil)
	c := newKeyCache(10)
	used := OfOrganization(id.New[id.Organization](ids))
	c.add(used, nil)
	for range 1000 {
		c.add(OfOrganization(id.New[id.Organization](ids)), nil)
		if n := len(c.young) + len(c.old); n > 20 {
			t.Fatalf("%d keys are held, at most 20 may be", n)
		}
		if _, ok := c.get(used); !ok {
			t.Fatal("a key in use was dropped")
		}
	}
}
