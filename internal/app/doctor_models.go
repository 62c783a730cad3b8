package app

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"stoa/internal/config"
	"stoa/internal/domain/model"
	"stoa/internal/platform/outbound"
)

// providers are the providers of models that can be configured.
func providers(cfg config.Config) []model.Provider {
	return []model.Provider{
		{Name: "openai", Kind: model.OpenAI, Key: cfg.OpenAIAPIKey.Reveal(), BaseURL: cfg.OpenAIBaseURL},
		{Name: "anthropic", Kind: model.Anthropic, Key: cfg.AnthropicAPIKey.Reveal(), BaseURL: cfg.AnthropicBaseURL},
	}
}

// modelClient reaches the providers' addresses, those inside too that the operator
// has configured.
func modelClient(cfg config.Config) *outbound.Client {
	return outbound.New(outbound.Options{
		Timeout: cfg.MaxTimeout, AllowLoopback: cfg.AllowLoopbackEgress, Exempt: []string{cfg.OpenAIBaseURL, cfg.AnthropicBaseURL},
	})
}

// diagnoseModels asks each configured provider whether it accepts its key.
func diagnoseModels(ctx context.Context, cfg config.Config) []Finding {
	client := modelClient(cfg)
	defer client.Close()
	var configured []model.Provider
	for _, p := range providers(cfg) {
		if p.Key != "" || p.BaseURL != "" {
			configured = append(configured, p)
		}
	}
	if len(configured) == 0 {
		return []Finding{{
			"models", Doubtful, "none is configured, so prompt packages cannot be executed",
			"set OPENAI_API_KEY, ANTHROPIC_API_KEY, or OPENAI_BASE_URL for a local server",
		}}
	}
	findings := make([]Finding, len(configured))
	var wait sync.WaitGroup
	for i, p := range configured {
		wait.Go(func() { findings[i] = diagnoseProvider(ctx, client.HTTP(), p) })
	}
	wait.Wait()
	return findings
}

func diagnoseProvider(ctx context.Context, client *http.Client, p model.Provider) Finding {
	const part = "models"
	variable := map[model.Kind]string{model.OpenAI: "OPENAI", model.Anthropic: "ANTHROPIC"}[p.Kind]
	err := model.Probe(ctx, client, p)
	switch {
	case err == nil && p.Key == "":
		return Finding{part, Good, p.Name + " answers, without a key", ""}
	case err == nil:
		return Finding{part, Good, p.Name + " answers and accepts the key", ""}
	case errors.Is(err, model.ErrKeyRefused) && p.Key == "":
		return Finding{part, Broken, p.Name + ": it wants a key, and none is configured", "set " + variable + "_API_KEY"}
	case errors.Is(err, model.ErrKeyRefused):
		return Finding{
			part, Broken, p.Name + ": " + err.Error(),
			"set " + variable + "_API_KEY to a key that the provider shows as active, or unset it; a key for another server needs its " + variable + "_BASE_URL",
		}
	case errors.Is(err, model.ErrBusy):
		return Finding{part, Doubtful, p.Name + ": " + err.Error(), "try again later; look at the provider's status page, and at the account's limits and credit"}
	}
	return Finding{
		part, Doubtful, p.Name + ": " + err.Error(),
		"check " + variable + "_BASE_URL, the network's rules for outgoing connections, and that the provider's server runs",
	}
}
