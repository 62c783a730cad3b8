package api

import (
	"context"
	"net/http"

	"stoa/internal/domain/access"
	"stoa/internal/domain/account"
	"stoa/internal/transport/middleware"
)

type registerInput struct{ Body registerBody }

type registerBody struct {
	Username string `json:"username" minLength:"2" maxLength:"77" pattern:"^[a-z0-9](-?[a-z0-9]){1,38}$" patternDescription:"lower-case letters and digits, single hyphens between them" doc:"Name of the person and of their organization; it never changes." example:"ada"`
	Email    string `json:"email" maxLength:"254" doc:"Address to sign in with." example:"ada@example.com"`
	Password string `json:"password" minLength:"8" maxLength:"1024" format:"password" writeOnly:"true" doc:"8 characters to 1024 bytes, not one of the commonest." example:"correct horse battery staple"`
}

type loginInput struct{ Body loginBody }

type loginBody struct {
	Email    string `json:"email" maxLength:"254" doc:"E-mail address or username." example:"ada@example.com"`
	Password string `json:"password" maxLength:"1024" format:"password" writeOnly:"true" example:"correct horse battery staple"`
	OTP      string `json:"otp,omitempty" maxLength:"64" writeOnly:"true" doc:"Code of the second factor; it counts for accounts that have one."`
}

type refreshInput struct{ Body refreshBody }

type refreshBody struct {
	RefreshToken string `json:"refresh_token" maxLength:"512" writeOnly:"true" doc:"The newest refresh token of the session."`
}

type logoutInput struct{ Body *logoutBody }

type logoutBody struct {
	RefreshToken string `json:"refresh_token,omitempty" maxLength:"512" writeOnly:"true" doc:"Whose session ends; the access token's own when left out."`
}

type tokensShape struct {
	AccessToken  string `json:"access_token" doc:"For the Authorization header, as Bearer."`
	RefreshToken string `json:"refresh_token" doc:"Good for one /api/v1/auth/refresh."`
	TokenType    string `json:"token_type" enum:"bearer"`
	ExpiresIn    int    `json:"expires_in" doc:"Seconds that the access token lives." example:"900"`
}

type registeredShape struct {
	User         userShape `json:"user"`
	AccessToken  string    `json:"access_token" doc:"For the Authorization header, as Bearer."`
	RefreshToken string    `json:"refresh_token" doc:"Good for one /api/v1/auth/refresh."`
	TokenType    string    `json:"token_type" enum:"bearer"`
	ExpiresIn    int       `json:"expires_in" doc:"Seconds that the access token lives." example:"900"`
}

const samplePassword = "correct horse battery staple"

// sampleTokens are cut short in the middle, as nobody can use them.
var sampleTokens = tokensShape{
	AccessToken: "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9...", RefreshToken: "stoa_rt_AQGiGKYlunA1lgXb...",
	TokenType: "bearer", ExpiresIn: 900,
}

// sessionLinks are what can be done with the refresh token of an answer.
var (
	sessionLinks   = links{"refresh": byRefreshToken, "logout": byRefreshToken}
	byRefreshToken = next{Body: map[string]any{"refresh_token": "$response.body#/refresh_token"}}
)

func tokensOf(t account.Tokens) tokensShape {
	return tokensShape{
		AccessToken: t.Access, RefreshToken: t.Refresh, TokenType: "bearer", ExpiresIn: int(t.ExpiresIn.Seconds()),
	}
}

// clientOf is where the request in hand came from.
func clientOf(ctx context.Context) account.Client {
	return account.Client{Address: middleware.AddressOf(ctx), Agent: callOf(ctx).r.UserAgent()}
}

var registerPerson = operation{
	ID: "register", Method: http.MethodPost, Path: "/api/v1/auth/register",
	Summary: "Register", Tags: []string{"Authentication"},
	Description: "Makes a person, their personal organization of the same name, and a first session.",
	Needs:       access.Public, Success: http.StatusCreated, Hashes: true,
	Faults:  faults{account.InvalidAccount, account.UsernameTaken, account.EmailTaken, account.SignInBusy},
	Request: registerInput{registerBody{Username: "ada", Email: "ada@example.com", Password: samplePassword}},
	Answers: []shown{{Title: "Registered", Value: registeredShape{
		User: sampleProfile(""), AccessToken: sampleTokens.AccessToken, RefreshToken: sampleTokens.RefreshToken,
		TokenType: sampleTokens.TokenType, ExpiresIn: sampleTokens.ExpiresIn,
	}}},
	Links: sessionLinks,
}

func (a *API) registerPerson(ctx context.Context, _ access.Actor, in *registerInput) (*body[registeredShape], error) {
	profile, tokens, err := a.Accounts.Register(ctx, account.Registration{
		Username: in.Body.Username, Email: in.Body.Email, Password: in.Body.Password, Client: clientOf(ctx),
	})
	t := tokensOf(tokens)
	return respond(registeredShape{
		User: userOf(profile), AccessToken: t.AccessToken, RefreshToken: t.RefreshToken, TokenType: t.TokenType, ExpiresIn: t.ExpiresIn,
	}, err)
}

var login = operation{
	ID: "login", Method: http.MethodPost, Path: "/api/v1/auth/login",
	Summary: "Sign in", Tags: []string{"Authentication"},
	Description: "Makes a session. Takes JSON, or the form of OAuth 2's password grant with the e-mail address as username.",
	Needs:       access.Public, Hashes: true,
	Form: map[string]string{
		"username": "email", "password": "password", "otp": "otp", "grant_type": "", "scope": "", "client_id": "", "client_secret": "",
	},
	Faults:  faults{account.InvalidAccount, account.InvalidCredentials, account.LoginThrottled, account.SignInBusy},
	Request: loginInput{loginBody{Email: "ada@example.com", Password: samplePassword}},
	Answers: []shown{{Title: "Signed in", Value: sampleTokens}},
	Links:   sessionLinks,
}

func (a *API) login(ctx context.Context, _ access.Actor, in *loginInput) (*body[tokensShape], error) {
	tokens, err := a.Accounts.Login(ctx, account.Credentials{
		Login: in.Body.Email, Password: in.Body.Password, Client: clientOf(ctx),
	})
	return respond(tokensOf(tokens), err)
}

var refresh = operation{
	ID: "refresh", Method: http.MethodPost, Path: "/api/v1/auth/refresh",
	Summary: "Refresh tokens", Tags: []string{"Authentication"},
	Description: "Exchanges a refresh token for new tokens. Using one twice ends its session.",
	Needs:       access.Public, Faults: faults{account.InvalidRefreshToken},
	Request: refreshInput{refreshBody{RefreshToken: sampleTokens.RefreshToken}},
	Answers: []shown{{Title: "New tokens", Value: sampleTokens}},
	Links:   sessionLinks,
}

func (a *API) refresh(ctx context.Context, _ access.Actor, in *refreshInput) (*body[tokensShape], error) {
	tokens, err := a.Accounts.Refresh(ctx, in.Body.RefreshToken, clientOf(ctx))
	return respond(tokensOf(tokens), err)
}

var logout = operation{
	ID: "logout", Method: http.MethodPost, Path: "/api/v1/auth/logout",
	Summary: "Sign out", Tags: []string{"Authentication"},
	Description: "Ends the session of the refresh token, or of the access token when there is none in the body.",
	Needs:       access.Public, Optional: true, Success: http.StatusNoContent,
	Faults:  faults{account.InvalidRefreshToken, access.Unauthenticated},
	Request: logoutInput{&logoutBody{RefreshToken: sampleTokens.RefreshToken}},
}

func (a *API) logout(ctx context.Context, actor access.Actor, in *logoutInput) (*empty, error) {
	token := ""
	if in.Body != nil {
		token = in.Body.RefreshToken
	}
	return respondEmpty(a.Accounts.Logout(ctx, actor, token))
}

func (a *API) registerAuth() {
	register(a, registerPerson, a.registerPerson)
	register(a, login, a.login)
	register(a, refresh, a.refresh)
	register(a, logout, a.logout)
}
