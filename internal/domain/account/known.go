package account

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"stoa/internal/platform/db"
)

const (
	// knownFor is how long after a sign-in its address is known to the account.
	knownFor = 90 * 24 * time.Hour
	// knownFresh is how long an address that was noted needs no new note.
	knownFresh = 24 * time.Hour
	// knownAddresses bounds the addresses of one account; the newest stay.
	knownAddresses = 20
)

// addressFingerprint stands for an address of a person, an IPv6 one by its /64. It
// depends on the person, so that it shows neither the address nor who shares it.
func (s *Service) addressFingerprint(who person, address netip.Addr) []byte {
	return s.keeper.Lookup("known_addresses.address_hmac", who.user.String()+" "+near(address))
}

// near is an address, or the /64 that one machine can roam in.
func near(address netip.Addr) string {
	address = address.Unmap().WithZone("")
	if network, err := address.Prefix(64); address.Is6() && err == nil {
		return network.String()
	}
	return address.String()
}

// knows says whether the person signed in from the address in the last 90 days.
func (s *Service) knows(ctx context.Context, who person, address netip.Addr) (bool, error) {
	_, err := selectKnownAddress(ctx, s.db, who, s.addressFingerprint(who, address), s.db.Now().Add(-knownFor))
	if errors.Is(err, db.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// remember notes that the person signed in from the address, at most once a day. It
// comes after the audit record, whose head lets one sign-in of an account pass at a
// time, so that two of them cannot wait for each other's notes.
func (s *Service) remember(ctx context.Context, tx db.Tx, who person, address netip.Addr, now db.Time) error {
	if !address.IsValid() {
		return nil
	}
	wrote, err := insertKnownAddress(ctx, tx, who, s.addressFingerprint(who, address), now, now.Add(-knownFresh))
	if err != nil || !wrote {
		return err
	}
	return trimKnownAddresses(ctx, tx, who, knownAddresses)
}
