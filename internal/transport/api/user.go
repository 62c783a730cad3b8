package api

import (
	"context"
	"net/http"

	"stoa/internal/domain/access"
	"stoa/internal/domain/account"
	"stoa/internal/platform/id"
	"stoa/internal/platform/money"
)

type userShape struct {
	ID            id.User           `json:"id"`
	Object        string            `json:"object" enum:"user"`
	Username      string            `json:"username"`
	Email         string            `json:"email"`
	DisplayName   string            `json:"display_name"`
	CreatedAt     timestamp         `json:"created_at"`
	UpdatedAt     timestamp         `json:"updated_at"`
	Organizations []membershipShape `json:"organizations" doc:"Organizations that the person belongs to, the personal one among them."`
}

type membershipShape struct {
	ID      id.Organization `json:"id"`
	Handle  string          `json:"handle"`
	Role    string          `json:"role" enum:"owner,admin,developer,billing,member,auditor"`
	Balance money.Amount    `json:"balance" doc:"What the organization can spend."`
}

type profileInput struct{ Body profileBody }

type profileBody struct {
	DisplayName *string `json:"display_name,omitempty" maxLength:"100" doc:"Name as others see it; empty removes it." example:"Ada Lovelace"`
}

func userOf(p account.Profile) userShape {
	shape := userShape{
		ID: p.ID, Object: "user", Username: p.Username, Email: p.Email, DisplayName: p.DisplayName,
		CreatedAt: at(p.CreatedAt.Time()), UpdatedAt: at(p.UpdatedAt.Time()), Organizations: []membershipShape{},
	}
	for _, m := range p.Memberships {
		shape.Organizations = append(shape.Organizations, membershipShape{ID: m.Organization, Handle: m.Handle, Role: string(m.Role)})
	}
	return shape
}

var sampleName = "Ada Lovelace"

func sampleProfile(displayName string) userShape {
	return userShape{
		ID: sampleUser, Object: "user", Username: "ada", Email: "ada@example.com", DisplayName: displayName,
		CreatedAt: sampleTime, UpdatedAt: sampleTime,
		Organizations: []membershipShape{{ID: sampleOrganization, Handle: "ada", Role: "owner"}},
	}
}

var getProfile = operation{
	ID: "get-profile", Method: http.MethodGet, Path: "/api/v1/user/profile",
	Summary: "Get one's own profile", Tags: []string{"User"},
	Description: "Who the access token belongs to, and the organizations that they can act for.",
	Needs:       access.ReadProfile,
	Answers:     []shown{{Title: "Own profile", Value: sampleProfile("")}},
}

func (a *API) getProfile(ctx context.Context, actor access.Actor, _ *struct{}) (*body[userShape], error) {
	profile, err := a.Accounts.Profile(ctx, actor)
	return respond(userOf(profile), err)
}

var changeProfile = operation{
	ID: "change-profile", Method: http.MethodPatch, Path: "/api/v1/user/profile",
	Summary: "Change one's own profile", Tags: []string{"User"},
	Description: "Members that are left out stay as they are. Username and e-mail address cannot be changed here.",
	Needs:       access.WriteProfile, Faults: faults{account.InvalidAccount},
	Request: profileInput{profileBody{DisplayName: &sampleName}},
	Answers: []shown{{Title: "Changed profile", Value: sampleProfile(sampleName)}},
}

func (a *API) changeProfile(ctx context.Context, actor access.Actor, in *profileInput) (*body[userShape], error) {
	profile, err := a.Accounts.ChangeProfile(ctx, actor, account.ProfileChange{DisplayName: in.Body.DisplayName})
	return respond(userOf(profile), err)
}

func (a *API) registerUser() {
	register(a, getProfile, a.getProfile)
	register(a, changeProfile, a.changeProfile)
}
