package redis

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/rueidis"
)

// NoTracking: the server has no client-side caching, and Options ask for it.
var NoTracking = errors.New("redis: the server has no client-side caching")

// Report is what Inspect found.
type Report struct {
	Version string
	// Cluster says that the server is a node of a cluster.
	Cluster bool
	// Forgets says that a full server deletes keys that are in use, by its
	// maxmemory-policy.
	Forgets bool
}

// Inspect connects to Redis once and looks at it. A server
// that does not show its settings is taken for one that is set well.
func Inspect(ctx context.Context, o Options) (Report, error) {
	options, err := o.client()
	if err != nil {
		return Report{}, err
	}
	client, err := rueidis.NewClient(options)
	if errors.Is(err, rueidis.ErrNoCache) {
		return Report{}, NoTracking
	}
	if err != nil {
		return Report{}, wrap(err, options.Password)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	if err := client.Do(ctx, client.B().Set().Key("stoa:health").Value("1").ExSeconds(60).Build()).Error(); err != nil {
		return Report{}, wrap(err, options.Password)
	}
	info, _ := client.Do(ctx, client.B().Info().Build()).ToString()
	found := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			found[name] = value
		}
	}
	bounded := found["maxmemory"] != "" && found["maxmemory"] != "0"
	return Report{
		Version: found["redis_version"],
		Cluster: client.Mode() == rueidis.ClientModeCluster,
		Forgets: bounded && found["maxmemory_policy"] != "noeviction",
	}, nil
}
