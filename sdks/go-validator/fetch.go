package validator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const maxDocumentBytes = 256 * 1024

// FetchedJwks is a JWK set as fetched.
type FetchedJwks struct {
	// Document is the JSON text.
	Document []byte
	// MaxAge is for how long it is fresh, or negative where the answer does not say.
	MaxAge time.Duration
}

// JwksFetcher fetches a JWK set; give one of your own to NewJwksKeysFrom.
type JwksFetcher func(context.Context) (FetchedJwks, error)

// checkURL takes https, or http on this machine's loopback: what is fetched in the clear is chosen by the network.
func checkURL(text string) (*url.URL, error) {
	parts, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	isPlain := parts.Scheme == "http" && isLoopback(parts.Hostname())
	if parts.Host == "" || parts.User != nil || !(parts.Scheme == "https" || isPlain) {
		return nil, errors.New("a URL is https, or http on loopback, and holds no password")
	}
	return parts, nil
}

func isLoopback(host string) bool {
	address := net.ParseIP(host)
	return host == "localhost" || (address != nil && address.IsLoopback())
}

// withoutRedirects follows none: the configured URL is the trust, not what it points to.
func withoutRedirects(client *http.Client) *http.Client {
	if client == nil {
		client = &http.Client{}
	}
	copied := *client
	copied.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &copied
}

func httpFetcher(address string, client *http.Client) JwksFetcher {
	client = withoutRedirects(client)
	return func(ctx context.Context) (FetchedJwks, error) {
		const accept = "application/jwk-set+json, application/json"
		body, header, err := fetchBody(ctx, client, address, accept, maxDocumentBytes)
		return FetchedJwks{body, maxAge(header)}, err
	}
}

// fetchBody fetches a whole document of bounded size.
func fetchBody(
	ctx context.Context, client *http.Client, address, accept string, limit int64,
) ([]byte, http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("the issuer answered %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = errors.New("the issuer's answer is too large")
	}
	return body, response.Header, err
}

var maxAgeDirective = regexp.MustCompile(`^max-age=(\d{1,9})$`)

// maxAge is the freshness an answer gives itself (RFC 9111 §5.2.2); `no-store` and `no-cache` are none at all.
func maxAge(headers http.Header) time.Duration {
	age := time.Duration(-1)
	for _, directive := range strings.Split(strings.Join(headers.Values("Cache-Control"), ","), ",") {
		directive = strings.ToLower(strings.TrimSpace(directive))
		if directive == "no-store" || directive == "no-cache" {
			return 0
		}
		if found := maxAgeDirective.FindStringSubmatch(directive); found != nil && age < 0 {
			seconds, _ := strconv.Atoi(found[1])
			age = time.Duration(seconds) * time.Second
		}
	}
	return age
}
