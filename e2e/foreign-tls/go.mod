module github.com/conduit-mesh/conduit/e2e/foreign-tls

go 1.26.0
