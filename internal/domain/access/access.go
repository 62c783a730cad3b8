// Package access answers one question: may this actor do that?
//
// An Actor is who asks, for which organization, with which role. Permissions are
// granted to roles by one table in this package; every operation of every face
// names the permission that it needs.
package access

import (
	"slices"

	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
)

// Role is a person's place in an organization.
type Role string

// The roles.
const (
	Owner     Role = "owner"
	Admin     Role = "admin"
	Developer Role = "developer"
	Billing   Role = "billing"
	Member    Role = "member"
	Auditor   Role = "auditor"
)

// Permission is one thing that an operation may need.
type Permission string

// The permissions. Public needs no credential at all.
const (
	Public          Permission = ""
	ReadProfile     Permission = "profile:read"
	WriteProfile    Permission = "profile:write"
	ReadPackages    Permission = "packages:read"
	WritePackages   Permission = "packages:write"
	ReadExecutions  Permission = "executions:read"
	ExecuteAgents   Permission = "executions:write"
	CancelExecution Permission = "executions:cancel"
)

// Actor is who asks. The zero Actor is an anonymous visitor.
type Actor struct {
	User         id.User
	Organization id.Organization
	// Handle is the organization's name, which is also its publisher namespace.
	Handle  string
	Role    Role
	Session id.Session
	// Home is the person's own organization, where their account is kept.
	Home id.Organization
}

// Anonymous says that no credential came with the request.
func (a Actor) Anonymous() bool { return a.User.IsZero() }

// Faults of this package.
var (
	// Unauthenticated: the request has no valid credential.
	Unauthenticated = fault.Define("unauthenticated", fault.Unauthenticated,
		"This needs a valid access token in the Authorization header.")
	// Forbidden: the actor's role does not have the permission.
	Forbidden = fault.Define("forbidden", fault.Forbidden,
		"Your role in this organization does not allow this.")
)

// grants is the one table of permissions by role.
var grants = map[Permission][]Role{
	ReadProfile:     {Owner, Admin, Developer, Billing, Member, Auditor},
	WriteProfile:    {Owner, Admin, Developer, Billing, Member, Auditor},
	ReadPackages:    {Owner, Admin, Developer, Billing, Member, Auditor},
	WritePackages:   {Owner, Admin, Developer},
	ReadExecutions:  {Owner, Admin, Developer, Member, Auditor},
	ExecuteAgents:   {Owner, Admin, Developer, Member},
	CancelExecution: {Owner, Admin, Developer, Member},
}

// Allowed says whether role has permission.
func Allowed(role Role, permission Permission) bool {
	return permission == Public || slices.Contains(grants[permission], role)
}

// Require returns Unauthenticated or Forbidden when actor may not do what needs
// permission, and nil when it may.
func Require(actor Actor, permission Permission) error {
	if permission == Public {
		return nil
	}
	if actor.Anonymous() {
		return Unauthenticated
	}
	if !Allowed(actor.Role, permission) {
		return Forbidden.With("needs", string(permission))
	}
	return nil
}
