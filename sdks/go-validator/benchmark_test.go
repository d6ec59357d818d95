package validator_test

// What a verification costs, one core and no network. On a shared machine take the least of many short runs, as the
// mean measures the neighbours: go test -run '^$' -bench . -cpu 1 -benchtime 20ms -count 30

import (
	"context"
	"testing"

	"authservice.example/validator"
)

func BenchmarkVerify(b *testing.B) {
	tokens := map[string]string{}
	for _, vector := range vectors.Tokens {
		tokens[vector.ID] = vector.Token
	}
	for _, alg := range []string{"rs256", "es256", "eddsa"} {
		for _, size := range []int{-1, 100} {
			b.Run(alg+map[int]string{-1: "/first", 100: "/cached"}[size], func(b *testing.B) {
				fetch := func(context.Context) (validator.FetchedJwks, error) {
					return validator.FetchedJwks{Document: vectors.Sources.Jwks, MaxAge: -1}, nil
				}
				verifier, err := validator.NewVerifier(
					validator.NewJwksKeysFrom(fetch, validator.JwksOptions{Clock: at}),
					validator.Config{
						Issuer: vectors.Verifier.Issuer, Audience: *vectors.Verifier.Audience,
						ClientID: *vectors.Verifier.ClientID, CacheSize: size, Clock: at,
					},
				)
				if err != nil {
					b.Fatal(err)
				}
				token := tokens["valid-"+alg]
				for index := 0; index < b.N; index++ {
					if _, err := verifier.Verify(ctx, token); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
