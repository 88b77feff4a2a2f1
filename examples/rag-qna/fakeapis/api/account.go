package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"
)

// Account is one customer of both APIs.
type Account struct {
	// Environment is the name that the log gives the account.
	Environment string `json:"environment"`
	OpenAIKey   string `json:"openai_key"`
	AlgoliaKey  string `json:"algolia_key"`
	// Indexes are those that AlgoliaKey may read and write.
	Indexes []string `json:"indexes"`
}

// Check reports what is missing. Its errors hold no key.
func (a Account) Check() error {
	if a.Environment == "" || a.OpenAIKey == "" || a.AlgoliaKey == "" || len(a.Indexes) == 0 {
		return errors.New("environment, openai_key, algolia_key and indexes must all be given")
	}
	return nil
}

func (a Account) opens(index string) bool { return slices.Contains(a.Indexes, index) }

// Fingerprint is a short hash of a key: the first 8 hex digits of its SHA-256.
func Fingerprint(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:4])
}

func byAlgoliaKey(a Account) string { return a.AlgoliaKey }
func byOpenAIKey(a Account) string  { return a.OpenAIKey }

// find returns the account whose key it is. It compares with every account, in constant time each.
func find(accounts []Account, keyOf func(Account) string, key string) (Account, bool) {
	var found Account
	var ok bool
	for _, a := range accounts {
		if subtle.ConstantTimeCompare([]byte(keyOf(a)), []byte(key)) == 1 {
			found, ok = a, true
		}
	}
	return found, ok
}
