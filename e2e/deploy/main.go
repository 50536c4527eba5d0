// Command render turns the shipped chart and manifests into what a cluster would be given, by Helm's and Kustomize's own
// engines, and lets Helm's linter look at the chart.
//
//	render chart FOLDER VALUES.yaml
//	render kustomize FOLDER
//	render lint FOLDER VALUES.yaml
//
// It prints YAML documents, or what the linter says; the exit code is 1 if there is an error. No cluster is asked for anything:
// the parts of Kubernetes' client that Helm would need for that are replaced by `no-cluster`, which saves most of the build.
package main

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const (
	release   = "hub"
	namespace = "chat"
	// The oldest Kubernetes that the chart says it is for.
	oldest = "v1.30.0"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "chart":
		return chart(args[1], args[2])
	case len(args) == 2 && args[0] == "kustomize":
		return kustomize(args[1])
	case len(args) == 3 && args[0] == "lint":
		return examine(args[1], args[2])
	}
	return errors.New("usage: render chart|lint FOLDER VALUES, render kustomize FOLDER")
}

// chart does what `helm template` does: values against the schema, then the templates.
func chart(folder, file string) error {
	loaded, err := loader.Load(folder)
	if err != nil {
		return err
	}
	given, err := chartutil.ReadValuesFile(file)
	if err != nil {
		return err
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	if version, err := chartutil.ParseKubeVersion(oldest); err == nil {
		capabilities.KubeVersion = *version
	}
	if !chartutil.IsCompatibleRange(loaded.Metadata.KubeVersion, oldest) {
		return fmt.Errorf("the chart is not for Kubernetes %s", oldest)
	}
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	values, err := chartutil.ToRenderValues(loaded, given, options, capabilities)
	if err != nil {
		return err
	}
	rendered, err := engine.Render(loaded, values)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(rendered))
	for name := range rendered {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		text := strings.TrimSpace(rendered[name])
		if strings.HasSuffix(name, ".txt") {
			fmt.Fprintln(os.Stderr, text)
		} else if text != "" {
			fmt.Printf("---\n# Source: %s\n%s\n", name, text)
		}
	}
	return nil
}

func kustomize(folder string) error {
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return err
	}
	text, err := objects.AsYaml()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

// examine does what `helm lint --strict` does.
func examine(folder, file string) error {
	given, err := chartutil.ReadValuesFile(file)
	if err != nil {
		return err
	}
	version, err := chartutil.ParseKubeVersion(oldest)
	if err != nil {
		return err
	}
	linter := lint.AllWithKubeVersion(folder, given, namespace, version)
	for _, message := range linter.Messages {
		fmt.Println(message)
	}
	if linter.HighestSeverity >= support.WarningSev {
		return errors.New("the linter is not content")
	}
	return nil
}
