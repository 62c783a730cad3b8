package app

import (
	"context"
	"fmt"

	"stoa/examples/agents"
	"stoa/internal/domain/access"
	"stoa/internal/domain/registry"
)

// publishSamples puts the sample agents into a catalogue that has no package yet.
// It costs no compilation: that happens in a worker, on first use.
func (a *App) publishSamples(ctx context.Context) error {
	there, _, err := a.Registry.List(ctx, access.Actor{}, registry.Filter{Limit: 1})
	if err != nil || len(there) > 0 {
		return err
	}
	archives, err := agents.Archives()
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if _, _, err := a.Registry.PublishSystem(ctx, archive.Data); err != nil {
			return fmt.Errorf("publish the sample agent %s: %w", archive.Name, err)
		}
	}
	if len(archives) > 0 {
		a.log.InfoContext(ctx, "the sample agents are published", "count", len(archives))
	}
	return nil
}
