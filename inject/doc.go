// Package inject decides what goes into a container: which versions of which
// secrets, under which names, merged with the environment of the image and of the
// launch spec.
//
// It is done in two steps, with the decision to launch between them:
//
//	resolution, err := inject.Resolve(ctx, source, inject.Request{
//		Environment: "dev",
//		Refs:        spec.GetSecrets(),
//	})
//	// resolution.Pins is kept with the workload: the next Resolve takes it and
//	// finds the same versions, however often the secrets have changed since.
//	environ := inject.Merge(inject.Layers{
//		Image:    image.Config.Env,
//		ImageEnv: spec.GetImage().GetEnv(),
//		Secrets:  resolution.Secrets,
//		Env:      spec.GetEnv(),
//		Reserved: map[string]string{"PURSER_APP": spec.GetApp()},
//	})
//
// [Resolve] reads from a [Source]; the embedded one is in package store. It fails
// before anything is created, and says everything that is wrong at once: a
// [MissingError] for secrets, versions and keys that are not there, an
// [UndeliverableError] for values that no environment variable can hold.
//
// [Merge] is a pure function. Precedence, lowest to highest: the image's own ENV,
// image.env, secrets in the order listed, env, and the reserved PURSER_ variables.
//
// [Copies] finds values in text that is to be kept in plain, such as a launch spec.
//
// Secret bytes travel as [Value], and a whole environment as [Environ]. Both show
// "[redacted]" to everything that prints or encodes; the bytes come out by a call
// of Reveal alone, so that grepping for it finds every place where they do.
package inject
