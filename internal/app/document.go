package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"stoa/internal/config"
	"stoa/internal/domain/access"
	"stoa/internal/domain/registry"
	"stoa/internal/platform/db"
	"stoa/internal/platform/fault"
	"stoa/internal/transport/api"
)

// Migrate brings the configured database up to date.
func Migrate(ctx context.Context, cfg config.Config) error {
	d, err := openDatabase(ctx, cfg, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Migrate(ctx, cfg.MigrateDatabaseURL.Reveal())
}

// Document gives a document that is made from the code: openapi, errors, config
// or manifest.
func Document(kind string) ([]byte, error) {
	switch kind {
	case "openapi":
		cfg, err := config.Load(nil)
		if err != nil {
			return nil, err
		}
		return api.New(api.Deps{
			Authenticator: nobody{}, Limits: nobody{}, Anywhere: anywhere(),
			Log: slog.New(slog.DiscardHandler), Now: time.Now, CursorKey: make([]byte, 32),
			Title: cfg.APITitle, Version: cfg.APIVersion, Description: cfg.APIDescription,
		}).OpenAPI(), nil
	case "errors":
		return []byte(api.ErrorsMarkdown()), nil
	case "config":
		return []byte(config.Markdown()), nil
	case "manifest":
		return registry.ManifestSchema(), nil
	}
	return nil, fmt.Errorf("there is no document %q", kind)
}

// anywhere are the refusals of the platform that every operation may meet.
func anywhere() []*fault.Fault { return []*fault.Fault{db.Unavailable, db.CommitUnknown} }

// nobody stands for the services while the document is made: nothing is asked of it.
type nobody struct{}

func (nobody) Authenticate(context.Context, string) (access.Actor, error) {
	return access.Actor{}, access.Unauthenticated
}

func (nobody) Admit(context.Context, http.Header, access.Actor) error { return nil }
