//! `lazaret image`: get, list and remove the images that cells run.

use api::{ImageRequest, ImageView};
use domain::{ByteSize, ImageName};

use crate::args::ImageCommand;
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::output::{print_json, print_table};
use crate::terminal::escape;

/// One of them.
pub(crate) async fn command(command: ImageCommand) -> Outcome {
    match command {
        ImageCommand::Pull { reference } => add(ImageRequest::Pull { reference }).await,
        ImageCommand::Import { path, name } => {
            let absolute = std::path::absolute(&path)?;
            let path = absolute.to_str().ok_or_else(|| Failure::new("the path is not UTF-8"))?.to_owned();
            add(ImageRequest::Import { path, name }).await
        }
        ImageCommand::Build { name } => add(ImageRequest::Build { name }).await,
        ImageCommand::Show { name } => show(&name).await,
        ImageCommand::Ls { json } => ls(json).await,
        ImageCommand::Rm { names } => {
            let client = background::client().await?;
            for name in names {
                client.remove_image(&name).await?;
                note(format!("removed `{name}`"));
            }
            Ok(0)
        }
    }
}

async fn add(request: ImageRequest) -> Outcome {
    let image =
        background::client().await?.add_image(&request).await?.finish(|message| note(message)).await?;
    print_images(vec![image])
}

async fn ls(json: bool) -> Outcome {
    let images = background::client().await?.images().await?;
    if json {
        return print_json(&images);
    }
    print_images(images)
}

async fn show(name: &ImageName) -> Outcome {
    let images = background::client().await?.images().await?;
    let Some(image) = images.into_iter().find(|image| image.name == *name) else {
        return Err(Failure::new(format!("no image `{name}` is here")).hint("`lazaret image ls` lists them"));
    };
    note(format!("{} is {}", image.name, image.digest));
    let rows = image.packages.into_iter().map(|package| {
        [package.name, package.version, package.place, package.integrity].map(|text| escape(&text))
    });
    print_table(["PACKAGE", "VERSION", "PLACE", "INTEGRITY"], &rows.collect::<Vec<_>>())
}

fn print_images(images: Vec<ImageView>) -> Outcome {
    let size = |bytes: u64| format!("{}MiB", ByteSize::bytes(bytes).as_mib());
    let rows = images.into_iter().map(|image| [image.name.to_string(), size(image.size), image.digest]);
    print_table(["IMAGE", "SIZE", "DIGEST"], &rows.collect::<Vec<_>>())
}
