package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"stoa/internal/domain/registry"
	"stoa/internal/platform/events"
	"stoa/internal/transport/api"
)

// CatalogueAge is how often the database is asked what other instances have
// published: so old may a public answer be, and a wake-up makes it younger.
const CatalogueAge = 250 * time.Millisecond

// topicCatalogue wakes those who follow the catalogue.
const topicCatalogue = "catalogue"

// catalogueWatch tells the kept answers what has changed in the catalogue.
type catalogueWatch struct {
	registry *registry.Service
	answers  *api.Answers
	hub      *events.Hub
	log      *slog.Logger

	mu sync.Mutex // one look at a time: what the second finds is newer
}

// catchUp reads what changed since the last look.
func (w *catalogueWatch) catchUp(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := w.answers.Generation()
	c, err := w.registry.Changes(ctx, known)
	if err != nil {
		return err
	}
	if c.Generation != known {
		w.answers.Advance(c.Origin, c.Generation, api.AnswerTags(c.Packages), c.All)
	}
	return nil
}

// published looks at once, so that a publisher reads what it has published, and
// wakes the other instances where there is a Redis; a failure leaves that to the
// next look.
func (w *catalogueWatch) published(ctx context.Context) {
	w.hub.Publish(topicCatalogue)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := w.catchUp(ctx); err != nil {
		w.log.WarnContext(ctx, "kept answers are behind the catalogue", "error", err)
	}
}

// follow looks at every wake-up and at every interval, until ctx ends.
func (w *catalogueWatch) follow(ctx context.Context) {
	wake, stop := w.hub.Subscribe(topicCatalogue)
	defer stop()
	tick := time.NewTicker(CatalogueAge)
	defer tick.Stop()
	failing := false
	for {
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := w.catchUp(bounded)
		cancel()
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			if failing {
				w.log.WarnContext(ctx, "what other instances publish is not seen; asked again until it is", "error", err)
			} else {
				w.log.InfoContext(ctx, "what other instances publish is seen again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-tick.C:
		}
	}
}
