package validator

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
)

type claimsKey struct{}

// ClaimsFrom gives the claims of the request that Protect let in.
func ClaimsFrom(ctx context.Context) (*Claims, bool) {
	claims, ok := ctx.Value(claimsKey{}).(*Claims)
	return claims, ok
}

// Protect is middleware for net/http, and so for chi and others: a handler behind it is reached only with a good token
// that has what needs says. It panics on needs that cannot be told in a challenge, as they are written in code.
func (r *Resource) Protect(needs Needs) func(http.Handler) http.Handler {
	if err := needs.check(); err != nil {
		panic("validator: " + err.Error())
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
			claims, err := r.Authenticate(request.Context(), RequestFacts{
				Authorization: request.Header.Values("Authorization"),
				Dpop:          request.Header.Values("DPoP"),
				Method:        request.Method,
				// The request's own Host proves nothing, and its URL may have been cut on the way here.
				URL: r.origin + request.RequestURI,
			}, needs)
			if err != nil {
				r.answer(writer, request, err)
				return
			}
			ctx := context.WithValue(request.Context(), claimsKey{}, claims)
			next.ServeHTTP(writer, request.WithContext(ctx))
		})
	}
}

func (r *Resource) answer(writer http.ResponseWriter, request *http.Request, err error) {
	var refused *Refusal
	if !errors.As(err, &refused) {
		refused = refusal(503, "unavailable", "Access tokens cannot be checked at the moment.", "", err)
	}
	if r.options.OnRefused != nil {
		r.options.OnRefused(request, refused)
	}
	for name, values := range refused.Header {
		writer.Header()[name] = values
	}
	writer.WriteHeader(refused.Status)
	_, _ = writer.Write(refused.Body()) // who has left is not to be told
}

// MetadataPath is where MetadataHandler belongs, "" without Resource.
func (r *Resource) MetadataPath() string {
	parts, err := url.Parse(r.metadataURL)
	if err != nil {
		return ""
	}
	return parts.Path
}

// MetadataHandler serves the resource's metadata (RFC 9728) to everybody: mount it at MetadataPath.
func (r *Resource) MetadataHandler() http.Handler {
	body, _ := json.Marshal(r.Metadata()) // of strings and lists only
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.Method != http.MethodGet && request.Method != http.MethodHead {
			writer.Header().Set("Allow", "GET, HEAD")
			writer.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		header := writer.Header()
		header.Set("Content-Type", "application/json")
		header.Set("Cache-Control", "public, max-age=3600")
		header.Set("Access-Control-Allow-Origin", "*")
		header.Set("X-Content-Type-Options", "nosniff")
		_, _ = writer.Write(body)
	})
}
