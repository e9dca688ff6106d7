module github.com/conduit-mesh/conduit/e2e/cluster

go 1.26.0
