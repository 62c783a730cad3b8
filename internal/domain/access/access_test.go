package access_test

import (
	"errors"
	"testing"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
)

var everyRole = []access.Role{access.Owner, access.Admin, access.Developer, access.Billing, access.Member, access.Auditor}

// The table is written out once more, so that a change of it is a decision.
func TestWhoMayDoWhat(t *testing.T) {
	for permission, roles := range map[access.Permission][]access.Role{
		access.Public:          everyRole,
		access.ReadProfile:     everyRole,
		access.WriteProfile:    everyRole,
		access.ReadPackages:    everyRole,
		access.WritePackages:   {access.Owner, access.Admin, access.Developer},
		access.ReadExecutions:  {access.Owner, access.Admin, access.Developer, access.Member, access.Auditor},
		access.ExecuteAgents:   {access.Owner, access.Admin, access.Developer, access.Member},
		access.CancelExecution: {access.Owner, access.Admin, access.Developer, access.Member},
	} {
		may := map[access.Role]bool{}
		for _, role := range roles {
			may[role] = true
		}
		for _, role := range everyRole {
			if access.Allowed(role, permission) != may[role] {
				t.Errorf("%s may %q: %v, want %v", role, permission, !may[role], may[role])
			}
		}
		if permission != access.Public && (access.Allowed("", permission) || access.Allowed("root", permission)) {
			t.Errorf("an unknown role may %q", permission)
		}
	}
	if access.Allowed(access.Owner, "moon:read") {
		t.Error("an owner may do what is not in the table")
	}
}

func TestRequire(t *testing.T) {
	user := id.New[id.User](id.NewSource(time.Now, nil))
	for name, try := range map[string]struct {
		actor      access.Actor
		permission access.Permission
		want       error
	}{
		"anybody, public":       {access.Actor{}, access.Public, nil},
		"anybody, protected":    {access.Actor{Role: access.Owner}, access.ReadPackages, access.Unauthenticated},
		"an owner":              {access.Actor{User: user, Role: access.Owner}, access.WritePackages, nil},
		"an auditor writing":    {access.Actor{User: user, Role: access.Auditor}, access.WritePackages, access.Forbidden},
		"an auditor executing":  {access.Actor{User: user, Role: access.Auditor}, access.ExecuteAgents, access.Forbidden},
		"somebody without role": {access.Actor{User: user}, access.ReadProfile, access.Forbidden},
	} {
		if err := access.Require(try.actor, try.permission); !errors.Is(err, try.want) {
			t.Errorf("%s: %v, want %v", name, err, try.want)
		}
	}
	refused := fault.Of(access.Require(access.Actor{User: user, Role: access.Auditor}, access.WritePackages))
	if refused.Fields["needs"] != "packages:write" {
		t.Errorf("the refusal does not say what is needed: %v", refused.Fields)
	}
}
