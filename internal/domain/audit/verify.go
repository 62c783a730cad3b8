package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"stoa/internal/platform/db"
	"stoa/internal/platform/id"
)

// verifyPage bounds the rows in memory during a verification.
const verifyPage = 500

// Verify recomputes the organization's whole chain, up to the head that stood when
// it began. It returns nil when every event is there and unchanged, and an error
// that is ErrBroken, with the number of the first wrong event, otherwise.
func Verify(ctx context.Context, q db.Querier, organization id.Organization) error {
	length, head, err := selectHead(ctx, q, organization)
	if errors.Is(err, db.NotFound) {
		length, head = 0, genesis[:]
	} else if err != nil {
		return err
	}
	seen, previous := int64(0), genesis[:]
	var last id.Audit
	for {
		page, err := selectRecords(ctx, q, organization, seen, last, verifyPage)
		if err != nil {
			return err
		}
		more := len(page) == verifyPage
		for _, r := range page {
			if r.seq > length { // appended since the head was read
				more = false
				break
			}
			if r.seq != seen+1 || !bytes.Equal(r.previous, previous) || !bytes.Equal(r.hash, r.sum()) {
				return fmt.Errorf("%w at event %d", ErrBroken, seen+1)
			}
			seen, previous, last = r.seq, r.hash, r.id
		}
		if !more {
			break
		}
	}
	if seen != length || !bytes.Equal(previous, head) {
		return fmt.Errorf("%w after event %d", ErrBroken, seen)
	}
	return nil
}
